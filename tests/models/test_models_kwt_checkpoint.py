from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from small_models import noise, small_kwt

from tome_audio.models import CheckpointError, load_kwt


def as_npz(model) -> dict[str, np.ndarray]:
    """Rename a model's weights as the published file names them."""
    arrays = {}
    for key, value in model.state_dict().items():
        key = key.replace(".attn.", ".").replace(".mlp.", ".").replace("cls_token", "cls").replace("pos_embed", "pos")
        if key in ("frontend.dft_a", "frontend.dft_b", "frontend.mel", "frontend.dct"):
            key += ".weight"
        arrays[key] = value.numpy()
    scale = model.blocks[0].attn.head_dim ** -0.5
    return {**arrays, "attn_scale_const": np.float32(scale), "ln_eps": np.float32(1e-6)}


def write(folder, arrays, labels="a\nb\nc c\nd"):
    (folder / "labels.txt").write_text(labels)
    np.savez(folder / "kwt.npz", **arrays)
    return folder / "kwt.npz"


@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_round_trip_infers_every_size(tmp_path, n_heads):
    model = small_kwt(n_heads=n_heads)
    loaded = load_kwt(write(tmp_path, as_npz(model)))
    x = noise(2, 1760) * 0.1
    assert loaded.labels == ("a", "b", "c c", "d")
    assert loaded.init_args == {**model.init_args, "norm_eps": pytest.approx(1e-6)}
    torch.testing.assert_close(loaded(x), model(x))
    assert not loaded.training


def test_wrong_keys_and_shapes_are_named(tmp_path):
    arrays = as_npz(small_kwt())
    missing = {k: v for k, v in arrays.items() if k != "blocks.1.norm2.bias"}
    with pytest.raises(CheckpointError, match=r"missing keys: blocks\.1\.norm2\.bias"):
        load_kwt(write(tmp_path, missing))
    with pytest.raises(CheckpointError, match="unexpected keys: surplus"):
        load_kwt(write(tmp_path, {**arrays, "surplus": np.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"blocks\.0\.attn\.q\.weight is \(16, 15\), needs \(16, 16\)"):
        load_kwt(write(tmp_path, {**arrays, "blocks.0.q.weight": np.zeros((16, 15))}))
    with pytest.raises(CheckpointError, match="is not a KWT checkpoint: 'cls'"):
        load_kwt(write(tmp_path, {"x": np.zeros(2)}))


def test_damaged_files_give_one_clear_error(tmp_path):
    path = write(tmp_path, as_npz(small_kwt()))
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    for content in (b"", b"not an archive", whole[: len(whole) // 2], bytes(middle)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"kwt\.npz can not be read as \.npz"):
            load_kwt(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_kwt(tmp_path / "other.npz")


def test_pickled_objects_are_refused(tmp_path):
    path = write(tmp_path, {**as_npz(small_kwt()), "x": np.array([{}], dtype=object)})
    with pytest.raises(CheckpointError, match="allow_pickle"):
        load_kwt(path)


def test_labels_must_be_there_and_fit(tmp_path):
    path = write(tmp_path, as_npz(small_kwt()), labels="a\nb\n")
    with pytest.raises(CheckpointError, match=r"has 2 labels, kwt\.npz has 4 classes"):
        load_kwt(path)
    path.with_name("labels.txt").unlink()
    with pytest.raises(CheckpointError, match=r"labels\.txt is missing"):
        load_kwt(path)


def read_clip(path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32")
    assert (rate, samples.ndim) == (16000, 1)
    return np.pad(samples[:16000], (0, max(0, 16000 - len(samples))))


def test_reference_logits_on_every_clip(kwt_folder):
    """The upstream model's logits on all real clips, to 1e-4."""
    model = load_kwt(kwt_folder / "kwt1.npz")
    assert model.labels[:3] == ("_silence_", "_unknown_", "yes")
    reference = np.load(kwt_folder / "reference_logits.npz", allow_pickle=False)
    clips = kwt_folder.parents[1] / "speech_commands"
    files = reference["files"]
    assert len(files) == 2710
    worst = 0.0
    for start in range(0, len(files), 256):
        waveforms = np.stack([read_clip(clips / file) for file in files[start : start + 256]])
        with torch.no_grad():
            logits = model(torch.from_numpy(waveforms)).numpy()
        worst = max(worst, np.abs(logits - reference["logits"][start : start + 256]).max())
    assert worst < 1e-4
