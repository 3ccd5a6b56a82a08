"""Training an encoder for sample identification: what is written, merged, resumed; one-sentence errors."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_songs import SMALL, write_material

from tome_audio.cli.rates import parse_rate
from tome_audio.cli.sampleid.embedders import ClassifierEmbedder, load_song_embedder
from tome_audio.models import SongEncoder, load_checkpoint

pytest.importorskip("accelerate")
pytest.importorskip("librosa")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture
def train(run, material, tmp_path):
    def call(*words, out=tmp_path / "out", data=material):
        cache = ("--material.cache", material / "cache")
        return run("sampleid", "train", "--data", data, "--out", out, *SMALL, *cache, *words)

    return call


@pytest.fixture
def trained(train, tmp_path):
    code, _, err = train()
    assert code == 0, err
    return tmp_path / "out" / "model.safetensors"


def test_what_is_promised_is_written(train, tmp_path):
    code, text, err = train()
    assert code == 0, err
    assert "on 6 songs, 3 to validate on" in text and "model.safetensors" in text
    out = tmp_path / "out"
    epochs, facts = pd.read_csv(out / "epochs.csv"), json.loads((out / "train.json").read_text())
    assert len(epochs) == 2 and {"loss", "lr", "score", "hit_rate", "mrr"} <= set(epochs.columns)
    assert facts["valid"]["mrr"] == pytest.approx(epochs["mrr"].max())
    assert facts["options"]["flips"]["offset"] == 0.25 and facts["environment"]["torch"]
    network, metadata = load_checkpoint(out / "model.safetensors")
    assert isinstance(network, SongEncoder) and network.n_dims == 8
    windows = metadata.extra["windows"]
    assert windows["window"] == 1.0 and windows["hop"] == 0.5 and windows["front_end"]["hop"] == 768
    embedder = load_song_embedder(str(out / "model.safetensors"))
    assert (embedder.window, embedder.hop, embedder.frame_hop) == (1.0, 0.5, 768)


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(train, tmp_path):
    other = tmp_path / "other"
    assert train("--trainer.epochs", "1", out=other)[0] == 0
    code, _, err = train(out=other)
    assert code == 2 and "resume" in err
    code, _, err = train("--resume", "--flips.semitones", "2", out=other)
    assert code == 2 and "flips.semitones" in err


def test_a_run_that_has_ended_is_resumed_to_the_same_weights(train, trained, tmp_path):
    before = load_file(trained)
    code, _, err = train("--resume")
    assert code == 0, err
    assert all(torch.equal(value, before[name]) for name, value in load_file(trained).items())


def test_the_last_weights_are_kept_on_demand(train, trained, tmp_path):
    assert json.loads((tmp_path / "out/train.json").read_text())["weights"].startswith("epoch")
    code, text, err = train("--resume", "--material.keep", "last")
    assert code == 0 and "last epoch: hit_rate" in text, err
    last = load_file(tmp_path / "out/last.safetensors")
    assert all(torch.equal(value, last[name]) for name, value in load_file(trained).items())


def test_merged_while_training_and_after(train, tmp_path):
    code, _, err = train("--merge.r", "2", "--merge.evaluate", "2")
    assert code == 0, err
    whole, merged = (load_song_embedder(str(tmp_path / "out/model.safetensors"), r) for r in (0, 2))
    windows = torch.rand(2, whole.n_frames, 160)
    assert whole.facts["r"] == "0" and merged.facts["r"] == "2" and whole.facts["model"] == merged.facts["model"]
    assert not torch.allclose(whole.embed(windows), merged.embed(windows))


def test_start_from_a_checkpoint_and_freeze(train, trained, tmp_path):
    before, out = load_file(trained), tmp_path / "frozen"
    code, _, err = train("--encoder.start", trained, "--encoder.freeze", "true", out=out)
    assert code == 0, err
    after = load_file(out / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("projection.") for name in changed)


def test_songs_that_cannot_be_used_are_named_and_skipped_on_demand(train, run, tmp_path):
    data = write_material(tmp_path / "data")
    (data / "stems/train/song2/0.flac").write_bytes(b"fLaC and nothing else")
    code, _, err = train(data=data)
    assert (
        code == 2 and "song2" in err and "material.skip_unusable" in err and not (tmp_path / "out/steps.csv").exists()
    )
    code, text, err = train("--material.skip_unusable", "true", data=data)
    assert code == 1 and "on 5 songs" in text and "song2" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--encoder.freeze", "true"), "encoder.start"),
        (("--encoder.start", "absent.safetensors"), "absent.safetensors"),
        (("--material.hop", "3"), "hop"),
        (("--front_end.n_bins", "400"), "bins"),
        (("--material.window", "60", "--material.skip_unusable", "true"), "two songs"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(train, words, said):
    code, _, err = train(*words)
    assert code == 2 and said in err


def test_a_folder_without_stems_says_what_is_expected(train, tmp_path):
    code, _, err = train(data=tmp_path)
    assert code == 2 and "stems/train" in err and "sampleid generate" in err


def test_embeddings_do_not_depend_on_level_and_have_length_one(trained):
    embedder = load_song_embedder(str(trained), None)
    windows = torch.rand(3, embedder.n_frames, 160)
    found = embedder.embed(windows)
    torch.testing.assert_close(found, embedder.embed(windows * 1e-3))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_variants_undo_what_was_done(trained):
    embedder = load_song_embedder(str(trained), 0, transpositions=(0, 3), tempi=(1.0, 1.25))
    assert embedder.variant_facts == ((0, 1), (3, 1), (0, 1.25), (3, 1.25))
    time = torch.arange(3 * 16000) / 16000
    pulse = (torch.sin(2 * torch.pi * 2 * time) > 0.9).float()

    def sound(semitones, ratio):
        played = pulse[(torch.arange(len(time)) * ratio).long() % len(pulse)]
        return embedder.frames(played * torch.sin(2 * torch.pi * 300 * 2 ** (semitones / 12) * time))

    n, middle = embedder.n_frames, 30
    original = sound(0, 1)[middle : middle + n]
    variants = embedder.variants(sound(3, 1)[middle : middle + n][None])[0]
    likeness = [float(torch.cosine_similarity(v.flatten(), original.flatten(), 0)) for v in variants[:2]]
    assert likeness[1] > 0.9 > 2 * likeness[0]
    assert embedder.variants(original[None]).shape == (1, 4, n, 160)


def test_a_classifier_embeds_as_it_is(checkpoint):
    embedder = load_song_embedder(str(checkpoint), parse_rate("2"))
    assert isinstance(embedder, ClassifierEmbedder) and embedder.window == 0.64
    waveform = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    frames = embedder.frames(waveform)
    windows = frames[: embedder.n_frames][None]
    assert embedder.embed(windows).shape == (1, 16) and embedder.variants(windows).shape[1] == 1
    with pytest.raises(ValueError, match="classifier"):
        load_song_embedder(str(checkpoint), 0, transpositions=(0, 1))
