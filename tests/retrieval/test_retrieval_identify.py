"""Search, and songs that are found: melodies at another pitch and tempo, in part of a song, under other sounds."""

import numpy as np
import pytest
import torch
from melodies import RATE, MelodyEmbedder, melody, save
from naive_votes import naive_normalised, naive_score

from tome_audio.retrieval import (
    ExactSearch,
    FaissSearch,
    IndexMatrix,
    SampleIndex,
    VoteOptions,
    embed_song,
    identify,
    score_tracks,
)

OPTIONS = VoteOptions(reach=2.0)


@pytest.fixture(scope="module")
def embedder():
    return MelodyEmbedder()


@pytest.fixture(scope="module")
def index(tmp_path_factory, embedder):
    folder = tmp_path_factory.mktemp("index")
    made = SampleIndex.create(folder / "index", embedder)
    made.add({f"t{n:02d}": save(folder / f"{n}.flac", melody(n, 20.0)) for n in range(12)}, embedder)
    return made


@pytest.fixture(scope="module")
def matrix(index):
    return index.matrix()


def song(path, number, *, start=6.0, semitones=0, tempo=1.0, before=5.0, seconds=4.0, after=6.0):
    """Other notes, softly all the time; a sample loud in the middle."""
    samples = 0.15 * melody(900 + number, before + seconds + after)
    first = round(before * RATE)
    sample = melody(number, seconds, semitones, tempo, start)
    samples[first : first + len(sample)] += sample
    return save(path, samples)


@pytest.mark.parametrize(("semitones", "tempo"), [(0, 1.0), (2, 1.0), (-3, 1.0), (0, 1.25), (2, 1.25)])
def test_a_sample_is_found_with_its_place_transposition_and_tempo(tmp_path, embedder, matrix, semitones, tempo):
    path = song(tmp_path / "song.wav", 7, semitones=semitones, tempo=tempo)
    found = identify(path, embedder, ExactSearch(matrix), OPTIONS)
    assert found.ids[0] == "t07" and found.best_score > found.scores[1] + 0.1
    assert len(found.ids) == len(found.scores) == 12 and len(found.heard) == 10
    assert found.seconds == 15 and found.starts.tolist() == list(range(14))
    match = found.heard[0].matches[0]
    assert (match.track, match.semitones, match.tempo_ratio) == ("t07", semitones, tempo)
    assert match.score == found.best_score
    assert abs(match.song_start - 5.0) <= 1 and abs(match.song_end - 9.0) <= 1
    assert abs(match.original_start - 6.0) <= 1 and abs(match.original_end - (6.0 + 4.0 * tempo)) <= 2
    assert found.heard[0].seconds == 20 and found.heard[0].profile.argmax() in (5, 6, 7)


def test_what_is_not_there_scores_less(tmp_path, embedder, matrix):
    other = identify(save(tmp_path / "other.wav", melody(555, 15.0)), embedder, ExactSearch(matrix), OPTIONS)
    there = identify(song(tmp_path / "song.wav", 3), embedder, ExactSearch(matrix), OPTIONS)
    assert other.best_score < there.best_score - 0.1


def test_a_sample_twice_is_two_stretches(tmp_path, embedder, matrix):
    twice = np.concatenate([melody(5, 4.0, start=8.0), melody(901, 8.0), melody(5, 4.0, start=8.0)])
    found = identify(save(tmp_path / "song.wav", twice), embedder, ExactSearch(matrix), OPTIONS)
    assert found.ids[0] == "t05"
    stretches = sorted((match.song_start, match.song_end) for match in found.heard[0].matches)
    assert len(stretches) == 2 and stretches[0][0] == 0 and abs(stretches[1][1] - 16) <= 1
    assert abs(stretches[0][1] - 4) <= 1 and abs(stretches[1][0] - 12) <= 1


def test_matches_end_where_the_files_do(tmp_path, embedder):
    index = SampleIndex.create(tmp_path / "index", embedder)
    index.add({"a": save(tmp_path / "a.wav", melody(1, 1.5))}, embedder)
    found = identify(tmp_path / "a.wav", embedder, ExactSearch(index.matrix()))
    (match,) = found.heard[0].matches
    assert (match.song_start, match.song_end, match.original_start, match.original_end) == (0, 1.5, 0, 1.5)


def test_a_new_original_is_found_without_training_and_a_removed_one_is_gone(tmp_path, embedder, index):
    path = song(tmp_path / "song.wav", 42)
    asked = lambda: identify(path, embedder, ExactSearch(index.matrix()), OPTIONS)  # noqa: E731
    before = asked()
    assert "new" not in before.ids
    index.add({"new": save(tmp_path / "new.flac", melody(42, 20.0))}, embedder)
    assert asked().ids[0] == "new"
    index.remove(["new"])
    after = asked()
    assert after.ids == before.ids and torch.equal(after.scores, before.scores)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("most", [2**23, 5000, 100, 1])
def test_scores_do_not_depend_on_the_memory_taken(tmp_path, embedder, matrix, most, normalise):
    queries = embed_song(song(tmp_path / "song.wav", 7), embedder).values
    found = score_tracks(queries, matrix, VoteOptions(reach=2.0, normalise=normalise), most=most)
    every = (queries.double() @ matrix.values.double().T).numpy()
    if normalise:
        every = naive_normalised(every)
    for number in range(12):
        rows = matrix.rows(number)
        score, variant, row = naive_score(every[:, :, rows], matrix.starts[rows].numpy(), 3, 2.0)
        assert found.scores[number].item() == pytest.approx(score, abs=1e-5)
        if number == 7:
            assert found.variants[number] == variant and abs(found.places[number] - rows.start - row) <= 2


def test_a_part_of_an_index_is_set_against_the_whole(tmp_path, embedder, matrix):
    queries = embed_song(song(tmp_path / "song.wav", 7), embedder).values
    whole = score_tracks(queries, matrix, OPTIONS)
    some = torch.tensor([2, 7, 8])
    part = score_tracks(queries, matrix.select(some), OPTIONS, moments=matrix.moments)
    assert torch.allclose(part.scores, whole.scores[some], atol=1e-5)


def test_a_window_that_is_like_everything_votes_for_nothing():
    """The first query is close to every track, a little closer to track 1; the second to track 0 alone."""
    matrix = random_matrix(40, 5, n_dims=64)
    everything = torch.nn.functional.normalize(matrix.values.sum(0), dim=0)
    values = torch.nn.functional.normalize(matrix.values + 2 * everything, dim=1)
    matrix = IndexMatrix(matrix.ids, matrix.seconds, values, matrix.starts, matrix.track)
    hub = torch.nn.functional.normalize(everything + 0.05 * values[5], dim=0)
    queries = torch.stack([hub, values[0]])[:, None]
    assert score_tracks(queries[:1], matrix, VoteOptions(n_windows=1, normalise=False)).scores.std() < 0.1
    cosines, found = (score_tracks(queries, matrix, VoteOptions(n_windows=2, normalise=on)).scores for on in (0, 1))
    lead = [float(scores[0] - scores[1:].mean()) / float(scores[1:].std()) for scores in (cosines, found)]
    assert found.argmax() == 0 and lead[1] > lead[0]


@pytest.mark.parametrize("n_rows", [1, 3])
def test_an_index_of_one_track_gives_finite_scores_that_say_how_alike_it_is(n_rows):
    matrix = random_matrix(1, n_rows)
    alike, other = (
        score_tracks(query[None, None], matrix, VoteOptions()).scores for query in (matrix.values[0], -matrix.values[0])
    )
    assert alike.isfinite().all() and alike > other + 3


def random_matrix(n_tracks, n_rows, n_dims=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.nn.functional.normalize(torch.randn(n_tracks * n_rows, n_dims, generator=generator), dim=1)
    track = torch.arange(n_tracks).repeat_interleave(n_rows)
    starts = torch.arange(n_rows, dtype=torch.float64).repeat(n_tracks)
    ids = tuple(f"{n:05d}" for n in range(n_tracks))
    return IndexMatrix(ids, torch.full((n_tracks,), float(n_rows)), values, starts, track)


class TestFaiss:
    def test_candidates_are_the_tracks_of_the_nearest_windows(self):
        pytest.importorskip("faiss")
        matrix = random_matrix(50, 4)
        queries = torch.nn.functional.normalize(torch.randn(3, 2, 16), dim=2)
        nearest = (queries.flatten(0, 1) @ matrix.values.T).topk(5).indices
        wanted = sorted(set(matrix.track[nearest.flatten()].tolist()))
        assert FaissSearch(matrix, n_neighbours=5).candidates(queries).tolist() == wanted
        assert FaissSearch(matrix, n_neighbours=999).candidates(queries).tolist() == list(range(50))

    def test_the_best_tracks_are_those_of_the_exact_search(self, tmp_path, embedder, matrix):
        pytest.importorskip("faiss")
        path = song(tmp_path / "song.wav", 7)
        exact = identify(path, embedder, ExactSearch(matrix), OPTIONS, n_heard=1)
        fast = identify(path, embedder, FaissSearch(matrix, n_candidates=4), OPTIONS, n_heard=1)
        assert fast.ids[0] == "t07" and len(fast.ids) == 4
        assert set(fast.ids) <= set(exact.ids) and fast.heard[0].matches == exact.heard[0].matches
        scores = dict(zip(exact.ids, exact.scores.tolist(), strict=True))
        assert [scores[name] for name in fast.ids] == pytest.approx(fast.scores.tolist())

    def test_a_large_index_is_looked_at_in_part(self):
        pytest.importorskip("faiss")
        matrix = random_matrix(2500, 10)
        search = FaissSearch(matrix, n_neighbours=5)
        queries = matrix.values[[10, 12345, 24999], None]
        found = search.candidates(queries)
        assert {1, 1234, 2499} <= set(found.tolist()) and len(found) <= 15
        scores = score_tracks(queries[:1], matrix.select(found), VoteOptions()).scores
        assert matrix.select(found).ids[int(scores.argmax())] == "00001"

    def test_without_faiss_one_sentence_says_what_to_install(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(ImportError, match=r"searching with faiss needs faiss.*pip install 'tome_audio\[faiss\]'"):
            FaissSearch(random_matrix(2, 2))

    @pytest.mark.parametrize("options", [{"n_neighbours": 0}, {"n_candidates": 0}, {"probed": 0}, {"probed": 1.5}])
    def test_bad_options(self, options):
        with pytest.raises(ValueError, match="must be at least 1 and probed in"):
            FaissSearch(random_matrix(2, 2), **options)
