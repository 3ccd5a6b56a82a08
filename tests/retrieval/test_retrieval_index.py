import json
import os
import shutil

import numpy as np
import pytest
import torch
from melodies import RATE, MelodyEmbedder, melody, save

from tome_audio.data.clips import DataError
from tome_audio.retrieval import SampleIndex, embed_reference


@pytest.fixture
def embedder():
    return MelodyEmbedder()


@pytest.fixture(scope="session")
def audio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    return {f"old/{n}": save(folder / "old" / f"{n}.flac", melody(n, 6.0 + n)) for n in range(4)}


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def made(tmp_path, embedder, audio):
    index = SampleIndex.create(tmp_path / "index", embedder, model={"name": "m"})
    index.add(audio, embedder)
    return index


def test_an_index_holds_what_the_embedder_gives(made, embedder, audio):
    found = SampleIndex.open(made.folder)
    assert found.model == {"name": "m"} and found.hop == 1.0 and found.settings == made.settings
    assert [(facts.id, facts.n_windows) for facts in found.tracks] == [(f"old/{n}", 5 + n) for n in range(4)]
    assert [facts.seconds for facts in found.tracks] == [6.0, 7.0, 8.0, 9.0]
    assert found.tracks[0].path == str(audio["old/0"].resolve())
    matrix = found.matrix()
    assert matrix.ids == tuple(audio) and matrix.seconds.tolist() == [6, 7, 8, 9]
    for number, path in enumerate(audio.values()):
        alone = embed_reference(path, embedder)
        rows = matrix.rows(number)
        assert torch.equal(matrix.values[rows], alone.values) and torch.equal(matrix.starts[rows], alone.starts)
        assert set(matrix.track[rows].tolist()) == {number}


def test_parts_of_a_matrix(made):
    matrix = made.matrix()
    part, chosen = matrix.between(1, 3), matrix.select(torch.tensor([0, 3]))
    assert part.ids == ("old/1", "old/2") and part.track.tolist() == [0] * 6 + [1] * 7
    assert torch.equal(part.values, matrix.values[5:18]) and part.seconds.tolist() == [7, 8]
    assert chosen.ids == ("old/0", "old/3") and chosen.track.tolist() == [0] * 5 + [1] * 8
    assert torch.equal(chosen.values, torch.cat([matrix.values[:5], matrix.values[18:]]))


def test_what_is_there_is_not_embedded_again(made, embedder, audio):
    before, embedder.n_windows = snapshot(made.folder), 0
    found = SampleIndex.create(made.folder, embedder).add(audio, embedder)
    assert (found.added, found.known, found.problems) == ((), tuple(audio), ())
    assert embedder.n_windows == 0 and snapshot(made.folder) == before


def test_a_copy_elsewhere_is_the_same_track_and_another_file_is_not(tmp_path, made, embedder, audio):
    copy = tmp_path / "copy.flac"
    shutil.copy(audio["old/1"], copy)
    os.utime(copy, ns=(1, 1))
    before = snapshot(made.folder)
    assert made.add({"old/1": copy}, embedder).known == ("old/1",)
    (problem,) = made.add({"old/1": audio["old/2"]}, embedder).problems
    assert problem.kind == "id taken" and "holds another file as 'old/1'" in problem.message
    assert snapshot(made.folder) == before


def test_a_file_that_has_changed_takes_the_place_of_the_old_one(tmp_path, embedder):
    index = SampleIndex.create(tmp_path / "index", embedder)
    path = save(tmp_path / "a.wav", melody(1, 4.0))
    index.add({"a": path}, embedder)
    save(path, melody(2, 5.0))
    assert index.add({"a": path}, embedder).added == ("a",)
    assert index.tracks[0].seconds == 5 and torch.equal(index.matrix().values, embed_reference(path, embedder).values)


def test_a_killed_run_resumes_and_equals_an_uninterrupted_one(tmp_path, made, audio, embedder, monkeypatch):
    class Killed(BaseException):
        pass

    killed = MelodyEmbedder()
    embed, left = killed.embed, [12]  # windows: in the middle of the third track, in batches of 3

    def until(windows):
        left[0] -= len(windows)
        if left[0] < 0:
            raise Killed
        return embed(windows)

    monkeypatch.setattr(killed, "embed", until)
    index = SampleIndex.create(tmp_path / "other", killed, model={"name": "m"})
    with pytest.raises(Killed):
        index.add(audio, killed, batch_size=3)
    assert len(index.tracks) == 2
    # What a kill in the middle of writing leaves behind.
    place = next((index.folder / "tracks").glob("*/*.npz"))
    (place.parent / f".{place.stem}.0123.part.npz").write_bytes(b"half")
    assert len(index.tracks) == 2
    found = SampleIndex.create(tmp_path / "other", embedder).add(audio, embedder, batch_size=3)
    assert (found.known, found.added) == (("old/0", "old/1"), ("old/2", "old/3"))
    uninterrupted = SampleIndex.create(tmp_path / "third", embedder, model={"name": "m"})
    uninterrupted.add(audio, embedder, batch_size=3)
    assert snapshot(tmp_path / "other") == snapshot(tmp_path / "third")


def test_a_removed_track_is_gone_and_the_others_stay(made):
    matrix = made.matrix()
    made.remove(["old/1", "old/3"])
    left = SampleIndex.open(made.folder)
    assert [facts.id for facts in left.tracks] == ["old/0", "old/2"]
    assert torch.equal(left.matrix().values, matrix.select(torch.tensor([0, 2])).values)
    with pytest.raises(DataError, match="has no track 'old/1', 'x'; nothing was removed"):
        left.remove(["old/0", "old/1", "x"])
    assert len(left.tracks) == 2
    left.remove(["old/0", "old/2"])
    with pytest.raises(DataError, match="holds no track yet"):
        left.matrix()


def test_files_of_no_use_are_named_and_the_others_are_added(tmp_path, embedder, audio):
    cut = tmp_path / "cut.flac"
    cut.write_bytes(audio["old/0"].read_bytes()[:9000])
    files = {
        "cut": cut,
        "good": audio["old/0"],
        "none": tmp_path / "none.wav",
        "silent": save(tmp_path / "silent.wav", np.zeros(2 * RATE)),
        "short": save(tmp_path / "short.wav", melody(0, 0.2)),
        "empty": tmp_path / "empty.wav",
    }
    files["empty"].write_bytes(b"")
    index, heard = SampleIndex.create(tmp_path / "index", embedder), []
    found = index.add(files, embedder, on_track=lambda *said: heard.append(said))
    assert found.added == ("good",) and [facts.id for facts in index.tracks] == ["good"]
    kinds = {problem.id: problem.kind for problem in found.problems}
    assert kinds == {"cut": "damaged", "none": "missing", "silent": "silent", "short": "too short", "empty": "empty"}
    assert all(problem.message.startswith(str(files[problem.id])) for problem in found.problems)
    assert [name for name, _ in heard] == list(files)
    assert [problem for _, problem in heard if problem] == list(found.problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": {"name": "melodies", "r": "8"}}, "r was 0, now 8"),
        ({"facts": {"name": "other", "r": "0"}}, "name was melodies, now other"),
        ({"window": 3.0}, "window was 2.0, now 3.0"),
        ({"sample_rate": 16000}, "sample_rate was 8000, now 16000"),
    ],
)
def test_another_model_or_r_is_one_clear_error(made, embedder, audio, change, message):
    for name, value in change.items():
        setattr(embedder, name, value)
    before = snapshot(made.folder)
    for act in (lambda: SampleIndex.create(made.folder, embedder), lambda: made.add(audio, embedder)):
        with pytest.raises(DataError, match=message) as caught:
            act()
        assert "made with another model or other settings" in str(caught.value) and "\n" not in str(caught.value)
    assert snapshot(made.folder) == before


def test_the_hop_belongs_to_the_index(tmp_path, embedder, audio):
    index = SampleIndex.create(tmp_path / "index", embedder, hop=0.5)
    index.add(audio, embedder)
    assert index.matrix().starts[:3].tolist() == [0, 0.5, 1]
    assert SampleIndex.create(tmp_path / "index", embedder).hop == 0.5
    with pytest.raises(DataError, match=r"hop was 0.5, now 1.0"):
        SampleIndex.create(tmp_path / "index", embedder, hop=1.0)


def test_embeddings_that_are_not_numbers_stop_the_run(tmp_path, embedder, audio, monkeypatch):
    index = SampleIndex.create(tmp_path / "index", embedder)
    monkeypatch.setattr(embedder, "embed", lambda windows: torch.full((len(windows), 288), torch.nan))
    with pytest.raises(DataError, match="is not finite: is the model trained"):
        index.add(audio, embedder)
    assert index.tracks == ()


class TestDamage:
    def test_no_index(self, tmp_path, embedder):
        with pytest.raises(DataError, match=r"holds no index.json"):
            SampleIndex.open(tmp_path)
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(DataError, match="holds something else than an index"):
            SampleIndex.create(tmp_path, embedder)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"version": 1}', '{"version": 1, "settings": {}, "model": {}}']
    )
    def test_index_json(self, made, content):
        (made.folder / "index.json").write_text(content)
        with pytest.raises(DataError, match="is damaged"):
            SampleIndex.open(made.folder)

    def test_a_later_format(self, made):
        facts = json.loads((made.folder / "index.json").read_text())
        (made.folder / "index.json").write_text(json.dumps({**facts, "version": 9}))
        with pytest.raises(DataError, match="format 9, and 1 is known here"):
            SampleIndex.open(made.folder)

    @pytest.mark.parametrize("where", [0.3, 0.9])
    def test_a_track_is_named_and_made_again_when_added(self, made, embedder, audio, where):
        path = made._place("old/2")
        content = bytearray(path.read_bytes())
        before = bytes(content)
        content[int(where * len(content))] ^= 0xFF
        path.write_bytes(content[: len(content) // 2] if where < 0.5 else content)
        with pytest.raises(DataError, match=path.name):  # one of the two meets the damage
            made.matrix()
            made.sketch("old/2")
        path.write_bytes(before[:100])
        with pytest.raises(DataError, match="is damaged"):
            made.tracks  # noqa: B018
        assert made.add(audio, embedder).added == ("old/2",)
        assert path.read_bytes() == before
