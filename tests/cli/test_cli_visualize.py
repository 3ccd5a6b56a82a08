"""Pictures of merged clips: where the tokens lie, what each layer merged, and one clear error for the rest."""

import copy

import numpy as np
import pytest
import soundfile
import torch

from tome_audio.cli.clip_view import clip_view
from tome_audio.cli.loading import load_model
from tome_audio.cli.visualize import draw_merged, merge_clip
from tome_audio.merge import Schedule
from tome_audio.patch import apply_patch, trace


@pytest.fixture
def clip(tmp_path):
    """A tone, then noise: 0.4 s, while the model listens for 0.65 s."""
    rng = np.random.default_rng(0)
    tone = 0.4 * np.sin(2 * np.pi * 700 * np.arange(3200) / 16000)
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.concatenate([tone, rng.uniform(-0.4, 0.4, 3200)]), 16000)
    return path


def waveform(seconds):
    return torch.randn(round(16000 * seconds), generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


@pytest.mark.parametrize("layer", ["final", "0", "2", "all"])
def test_a_picture_of_each_layer(checkpoint, clip, tmp_path, run, layer):
    out = tmp_path / "new" / "picture.png"
    code, text, err = run("visualize", clip, "--model", checkpoint, "--r", "4,2", "--layer", layer, "--out", out)
    assert (code, err) == (0, "")
    assert "32 patches, 6 merged away, 26 tokens left" in " ".join(text.split())
    assert out.read_bytes().startswith(b"\x89PNG") and {p.name for p in out.parent.iterdir()} == {"picture.png"}


def test_the_ending_says_which_picture(checkpoint, clip, tmp_path, run):
    for name, written in (("a.svg", {"a.svg"}), ("b", {"b.png", "b.svg"})):
        code, _, _ = run("visualize", clip, "--model", checkpoint, "--r", 4, "--out", tmp_path / name)
        assert code == 0 and {p.name for p in tmp_path.glob(f"{name[0]}.*")} == written


def test_layers_are_those_of_the_trace(checkpoint):
    loaded = load_model(str(checkpoint))
    merged = merge_clip(loaded, waveform(0.4), [4, 2])
    assert [name for name, _ in merged.layers] == ["after block 0", "after block 1", "after block 2"]
    assert [len(assign.unique()) for _, assign in merged.layers] == [30, 28, 28]
    reference = apply_patch(load_model(str(checkpoint)).model, [4, 2])
    with trace(reference) as traces, torch.no_grad():
        output = reference(loaded.prepare([waveform(0.4)]))[0]
    assert (merged.layers[0][1] == traces[0].plan(0).assign[0]).all() and torch.equal(merged.output, output)


def test_rounds_before_the_first_block_are_a_layer_of_their_own(checkpoint):
    schedule = Schedule((4,), before=(10, 5))
    loaded = load_model(str(checkpoint))
    merged = merge_clip(loaded, waveform(0.4), schedule)
    assert [name for name, _ in merged.layers][:2] == ["before block 0", "after block 0"]
    before, after = merged.layers[0][1], merged.layers[1][1]
    assert len(before.unique()) == 34 - 15 and len(after.unique()) == 34 - 19
    # Block 0 only merges further: what was one token before it is one after it.
    assert all(len(after[before == slot].unique()) == 1 for slot in before.unique())
    assert merged.report.before == (10, 5)
    assert loaded.model.r == schedule
    assert draw_merged(merged, "before", "x").get_suptitle() == "x\nbefore block 0"
    assert draw_merged(merged, "0", "x").get_suptitle() == "x\nafter block 0"


def test_every_layer_has_a_small_picture(checkpoint):
    merged = merge_clip(load_model(str(checkpoint)), waveform(0.4), Schedule((4,), before=(10,)))
    titles = [axes.get_title() for axes in draw_merged(merged, "all", "x").axes if axes.get_visible()]
    # Two of the tokens are the prefix, which lies nowhere on the picture.
    assert titles == [
        "the clip", "before block 0: 22 tokens", *[f"after block {i}: 18 tokens" for i in range(3)],
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.4, 0.655, 5.0])
def test_padding_begins_where_the_front_end_says(checkpoint, seconds):
    from tome_audio.audio import ast_features

    view = clip_view(load_model(str(checkpoint)), waveform(seconds))
    features = ast_features([waveform(seconds)], n_frames=64, mean=-4.0, std=4.0)
    assert view.n_valid == int(features.valid.sum()) and torch.equal(view.image, features.values[0])


def test_a_huggingface_ast_has_the_grid_of_ours(tmp_path, checkpoint):
    from transformers import ASTFeatureExtractor

    from tome_audio.models import to_huggingface

    ours = load_model(str(checkpoint))
    to_huggingface(ours.model).save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=128, max_length=64, mean=-4.0, std=4.0).save_pretrained(tmp_path)
    theirs = load_model(str(tmp_path))
    a, b = (merge_clip(loaded, waveform(0.4), 5) for loaded in (ours, theirs))
    assert a.view.grid == b.view.grid and a.view.n_valid == b.view.n_valid
    for (_, one), (_, other) in zip(a.layers, b.layers, strict=True):
        assert torch.equal(one, other)


def test_tokens_of_kwt_are_columns_of_one_frame(tmp_path):
    from fakes import CASES

    from tome_audio.models import save_checkpoint

    path = tmp_path / "kwt.safetensors"
    model = CASES["kwt"].build()
    save_checkpoint(path, model, labels=[str(i) for i in range(5)])
    merged = merge_clip(load_model(str(path)), waveform(0.12), 3)
    grid = merged.view.grid
    assert grid.shape == (1, 20) and grid.n_tokens == len(merged.layers[0][1])
    assert tuple(merged.view.image.shape) == (20, grid.n_mels) and merged.view.n_valid == 12
    # Frames of 30 ms every 10 ms, drawn around their centres.
    assert grid.time_edges()[:2].tolist() == pytest.approx([0.01, 0.02])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layer", "3"), "blocks are 0 to 2"),
        (("--layer", "-1"), "is not a layer"),
        (("--layer", "last"), "is not a layer"),
        (("--layer", "before"), "nothing merges before the first block"),
        (("--out", "a.jpg"), "pictures end in .png or .svg"),
        (("--r", "x"), "not understood"),
    ],
)
def test_bad_options(checkpoint, clip, tmp_path, run, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("visualize", clip, "--model", checkpoint, *options)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"clip.wav"}


def test_models_that_do_not_hear_are_refused(clip, tmp_path, run):
    out = tmp_path / "a.png"
    code, _, err = run("visualize", clip, "--model", "vit_tiny_patch16_224", "--out", out)
    assert code == 2 and "vit_tiny_patch16_224 does not take audio" in err and not out.exists()


def test_bad_files_and_silence(checkpoint, tmp_path, run):
    bad, silent = tmp_path / "a.wav", tmp_path / "b.wav"
    bad.write_text("this is not audio\n")
    soundfile.write(silent, np.zeros(8000), 16000)
    code, _, err = run("visualize", bad, "--model", checkpoint, "--out", tmp_path / "x.png")
    assert code == 2 and str(bad) in err and not (tmp_path / "x.png").exists()
    code, _, err = run("visualize", silent, "--model", checkpoint, "--r", 4, "--out", tmp_path / "x.png")
    assert code == 0 and "every sample is zero" in err and (tmp_path / "x.png").exists()


def test_a_real_clip_with_kwt1(real_data, tmp_path):
    folder = real_data / "speech_commands" / "test_v0.02" / "yes"
    samples, _ = soundfile.read(sorted(folder.glob("*.flac"))[0], dtype="float32")
    loaded = load_model(str(real_data / "weights" / "kwt1_speechcommands_v2_12" / "kwt1.npz"))
    before = copy.deepcopy(loaded.model.state_dict())
    merged = merge_clip(loaded, torch.from_numpy(samples), Schedule((6, 4, 2), before=(49, 24)))
    assert loaded.labels[int(merged.output.argmax())] == "yes"
    assert [len(assign.unique()) for _, assign in merged.layers][:4] == [26, 20, 16, 14]
    # Rounds of neighbours before block 0: each token is one stretch of time.
    assign = merged.layers[0][1][1:]
    assert (assign.diff() >= 0).all()
    assert all(torch.equal(value, before[key]) for key, value in loaded.model.state_dict().items())
