"""What the page answers, without a page: two answers to one clip, or one sentence."""

import io
import math
import threading

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch

from tome_audio.cli.loading import load_model
from tome_audio.cli.page.hear import ClipError, describe_answer, draw_picture, hear, make_pair, read_clip
from tome_audio.merge import ComputeTarget
from tome_audio.patch import apply_patch, describe, is_patched

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)


@pytest.fixture(scope="module")
def pair(checkpoint):
    return make_pair(load_model(str(checkpoint)))


def write(folder, samples=NOISE, name="clip.wav", rate=16000, **kwargs):
    path = folder / name
    soundfile.write(path, samples, rate, **kwargs)
    return path


def probabilities(model, loaded, path):
    with torch.no_grad():
        return model(loaded.prepare([read_clip(path)]))[0].softmax(-1)


def test_both_answers_are_those_of_the_model_and_of_a_patched_one(pair, checkpoint, tmp_path):
    path, fresh = write(tmp_path), load_model(str(checkpoint))
    plain = probabilities(fresh.model, fresh, path)
    answer = hear(pair, path, 1.6, top_k=4)
    merged = probabilities(apply_patch(fresh.model, ComputeTarget(1.6)), fresh, path)
    for found, wanted in ((answer.unmerged, plain), (answer.merged, merged)):
        assert [name for name, _ in found] == [fresh.labels[i] for i in wanted.argsort(descending=True)]
        assert [p for _, p in found] == pytest.approx(wanted.sort(descending=True).values.tolist(), abs=2e-6)
    assert not torch.allclose(plain, merged, atol=1e-5)
    report = describe(fresh.model, 34)
    assert 1.6 <= answer.macs_cut == report.macs_cut
    assert (answer.tokens_in, answer.tokens_out) == (34, report.tokens[-1]) and answer.tokens_out < 34
    assert describe_answer(answer) == f"{report.macs_cut:.1f}x fewer MACs, 34 → {report.tokens[-1]} tokens"
    assert answer.notes == () and len(hear(pair, path, 1.6, top_k=2).merged) == 2


def test_the_speed_is_that_of_both_in_turns(pair, tmp_path, monkeypatch):
    def three_to_one(calls, **options):
        assert all(call() is not None for call in calls.values())
        return {name: [0.03] * 3 if name == "unmerged" else [0.01] * 3 for name in calls}

    monkeypatch.setattr("tome_audio.cli.page.hear.interleaved_for", three_to_one)  # the machine may be busy
    answer = hear(pair, write(tmp_path), 2.0)
    assert 0 < answer.speedup.low <= answer.speedup.median <= answer.speedup.high
    assert answer.unmerged_ms > 0 and answer.merged_ms > 0
    assert answer.batch_speedup is not None and answer.batch_speedup.median > 0  # so small a model is quick
    assert answer.speedup.median == pytest.approx(3) and answer.unmerged_ms == pytest.approx(3 * answer.merged_ms)


def test_one_merges_nothing_and_the_model_itself_is_never_patched(pair, tmp_path):
    path = write(tmp_path)
    hear(pair, path, 2.0)
    answer = hear(pair, path, 1.0)
    assert answer.merged == answer.unmerged and answer.macs_cut == 1 and answer.tokens_out == answer.tokens_in
    assert not is_patched(pair.loaded.model)


def test_the_largest_target_is_reached_and_no_more(pair, tmp_path):
    path = write(tmp_path)
    assert 1 < pair.largest_target <= min(10, pair.reachable)
    assert hear(pair, path, pair.largest_target).macs_cut >= pair.largest_target
    assert hear(pair, path, pair.reachable).macs_cut == pytest.approx(pair.reachable)
    most = math.floor(10 * pair.reachable) / 10
    with pytest.raises(ClipError, match=f"out of reach: this model with its 34 tokens reaches {most:g} at most"):
        hear(pair, path, pair.reachable + 0.01)


@pytest.mark.parametrize("target", [0.5, -1.0, float("nan"), float("inf")])
def test_targets_that_are_none(pair, tmp_path, target):
    with pytest.raises(ClipError, match="should be between 1 and"):
        hear(pair, write(tmp_path), target)


def cut(path):
    path.write_bytes(path.read_bytes()[:9000])
    return path


def text(path):
    path.write_text("this is not audio\n")
    return path


def empty(path):
    path.touch()
    return path


BROKEN = {
    "text": (lambda d: text(d / "clip.wav"), "cannot be decoded as audio"),
    "empty": (lambda d: empty(d / "clip.wav"), "is empty"),
    "missing": (lambda d: d / "clip.wav", "no such file"),
    "no samples": (lambda d: write(d, NOISE[:0]), "holds no samples"),
    "cut short": (lambda d: cut(write(d)), "is cut short"),
    "cut short flac": (lambda d: cut(write(d, name="clip.flac")), "cut short|cannot be decoded"),
    "nan": (lambda d: write(d, np.full(8000, np.nan), subtype="FLOAT"), "NaN"),
    "too long": (lambda d: write(d, np.tile(NOISE, 5)), "is longer than 2 seconds"),
    "a little too long": (lambda d: write(d, np.tile(NOISE, 5)[:32001]), "is longer than 2 seconds"),
    "too long at 8 kHz": (lambda d: write(d, np.tile(NOISE, 5), rate=8000), "is longer than 2 seconds"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_bad_files_are_one_sentence_without_a_path(pair, tmp_path, kind):
    make, message = BROKEN[kind]
    path = make(tmp_path)
    with pytest.raises(ClipError, match=message) as caught:
        hear(pair, path, 2.0, max_seconds=2.0)
    said = str(caught.value)
    assert said.startswith(f"{path.name}: ") and str(tmp_path) not in said and "\n" not in said


def test_clips_up_to_the_limit_are_heard(pair, tmp_path):
    path = write(tmp_path, np.tile(NOISE, 4))
    assert len(read_clip(path, 2.0)) == 32000
    answer = hear(pair, path, 2.0, max_seconds=2.0)
    assert answer.notes == ("The model hears the first 0.65 s of 2.00 s.",)


def test_silence_is_answered_with_a_warning(pair, tmp_path):
    answer = hear(pair, write(tmp_path, np.zeros(8000)), 2.0)
    assert answer.merged and "Every sample of this clip is zero" in answer.notes[0]


def test_the_picture_is_that_of_the_merged_clip(pair, tmp_path):
    path = write(tmp_path)
    pictures = [draw_picture(hear(pair, path, target)) for target in (1.0, 2.0)]
    shapes = [matplotlib.image.imread(io.BytesIO(picture)).shape for picture in pictures]
    assert shapes[0] == shapes[1] and min(shapes[0][:2]) > 400 and pictures[0] != pictures[1]


def test_many_at_once_get_what_each_gets_alone(pair, tmp_path):
    path, targets = write(tmp_path), (1.0, 1.3, 1.6, 2.0)
    alone = [hear(pair, path, target) for target in targets]
    together = [None] * len(targets)

    def ask(index):
        together[index] = hear(pair, path, targets[index])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(targets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert (one.unmerged, one.merged, one.macs_cut) == (other.unmerged, other.merged, other.macs_cut)


def test_models_that_cannot_answer_are_refused():
    with pytest.raises(ValueError, match="cannot classify audio"):
        make_pair(load_model("vit_tiny_patch16_224"))


def test_real_clips_with_kwt1(real_data):
    pair = make_pair(load_model(str(real_data / "weights" / "kwt1_speechcommands_v2_12" / "kwt1.npz")))
    assert pair.largest_target == 10.0
    clips = sorted((real_data / "speech_commands" / "test_v0.02" / "yes").glob("*.flac"))[:5]
    answers = [hear(pair, clip, 4.0) for clip in clips]
    assert sum(answer.merged[0][0] == answer.unmerged[0][0] == "yes" for answer in answers) >= 4
    assert all(answer.macs_cut >= 4 and answer.tokens_in == 99 and answer.tokens_out < 30 for answer in answers)
