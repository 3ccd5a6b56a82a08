"""What the page shows for each kind of answer, without a browser."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'tome_audio[demo]'")
from tome_audio.cli.loading import load_model
from tome_audio.cli.page import layout
from tome_audio.cli.page.hear import hear, make_pair
from tome_audio.profiling import Ratio


@pytest.fixture(scope="module")
def pair(checkpoint):
    return make_pair(load_model(str(checkpoint)))


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 16000)
    return path


def test_an_answer_fills_everything(pair, clip):
    problem, message, unmerged, merged, picture = layout.respond(pair, str(clip), 2.0, 5.0)
    assert problem == "" and "fewer MACs, 34 →" in message and 'role="status"' in message
    assert set(unmerged) == set(merged) == {"_silence_", "bell", "dog", "horn"} and picture.size[0] > 700


def test_no_clip_and_bad_targets_empty_the_page(pair, clip):
    assert layout.respond(pair, None, 2.0, 5.0)[2:] == (None, None, None)
    _, message, *rest = layout.respond(pair, str(clip), 1000.0, 5.0)
    assert "1000 times fewer MACs are out of reach" in message and 'role="alert"' in message and rest == [None] * 3


def test_an_upload_becomes_what_every_browser_plays(clip):
    found = [layout.take_upload(str(clip), 5.0) for _ in range(2)]
    (first, problem), (second, _) = found
    assert first != second and problem == "" and first.endswith("/clip.wav")  # two people, the same upload
    assert soundfile.info(first).format == "WAV"
    (samples, rate), (wanted, _) = (soundfile.read(path, dtype="int16") for path in (first, clip))
    assert rate == 16000 and np.abs(samples.astype(int) - wanted).max() <= 1
    assert layout.take_upload(str(clip), 0.1)[0] is None


@pytest.mark.parametrize("broken", ["hear", "read_clip"])
def test_what_nobody_expected_is_told_to_the_terminal_alone(pair, clip, monkeypatch, capsys, broken):
    def fail(*_, **__):
        raise RuntimeError(f"no way through {clip}")

    monkeypatch.setattr(layout, broken, fail)
    shown = layout.respond(pair, str(clip), 2.0, 5.0) if broken == "hear" else layout.take_upload(str(clip), 5.0)
    assert "the terminal that runs the page says what" in str(shown) and str(clip) not in str(shown)
    assert str(clip) in capsys.readouterr().err


def test_names_of_files_and_labels_are_text(pair, tmp_path):
    path = tmp_path / "<img src=x>.wav"
    path.touch()
    _, problem = layout.take_upload(str(path), 5.0)
    assert "<img" not in problem and "&lt;img src=x&gt;.wav: is empty" in problem


def test_the_message_is_honest_about_labels_and_speed(pair, clip):
    answer = hear(pair, clip, 2.0)
    slower = replace(answer, speedup=Ratio(0.5, 0.4, 0.6), batch_speedup=None)
    changed = replace(slower, merged=[("horn", 0.9)], unmerged=[("bell", 0.9)], speedup=Ratio(2.0, 1.9, 2.1))
    assert "too little work" in layout.show_answer(slower) and "0.50 times as fast" in layout.show_answer(slower)
    shown = layout.show_answer(changed)
    assert "another top label" in shown and "too little work" not in shown and "such clips at once" not in shown
    assert "same top label" in layout.show_answer(replace(changed, merged=[("bell", 0.8)]))


def test_a_model_that_reaches_less_than_ten_says_so(pair):
    assert "10 leaves a tenth of the work" in layout._why_the_end(replace(pair, reachable=14.2))
    less = replace(pair, reachable=6.37)
    assert less.largest_target == 6.3 and "6.3 is the most this model reaches" in layout._why_the_end(less)
