"""Few-shot training from the command line: what is written, resumed, every encoder, loss, view; one-sentence errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from generated_clips import CNN, PER_CLASS, SPEC, TRAIN, VALID
from safetensors.torch import load_file

from tome_audio.models import FewShotNetwork, load_checkpoint
from tome_audio.models.few_shot_encoders import ConvEncoder

pytest.importorskip("accelerate")
ROOT = Path(__file__).parent.parent.parent.parent
ONE_EPOCH = ("--trainer.epochs", "1")
SHORT = (*ONE_EPOCH, "--episodes.per_epoch", "2", "--episodes.valid", "2")


@pytest.fixture
def shapes(monkeypatch):
    """Shapes of support and query of every batch of episodes, and whether it was one to train on."""
    found, forward = [], FewShotNetwork.forward

    def recorded(self, support, query):
        found.append((self.training, tuple(support.shape), tuple(query.shape)))
        return forward(self, support, query)

    monkeypatch.setattr(FewShotNetwork, "forward", recorded)
    return found


def test_what_is_promised_is_written_and_taken_by_evaluate(train, evaluate, tmp_path):
    code, text, err = train("--tensorboard", "true", "--head.projection", "[8,8]")
    out = tmp_path / "out"
    assert code == 0, err
    assert "on 3 classes with 18 clips, 2 classes to validate on" in text and "model.safetensors" in text
    epochs, facts = pd.read_csv(out / "epochs.csv"), json.loads((out / "train.json").read_text())
    assert len(epochs) == 2 and {"loss", "lr", "score", "accuracy", "interval"} <= set(epochs.columns)
    assert len(pd.read_csv(out / "steps.csv")) == 4 and list((out / "tensorboard").iterdir())
    assert facts["valid"]["accuracy"] == pytest.approx(epochs["accuracy"].max())
    assert facts["options"]["episodes"]["n_query"] == 2 and facts["options"]["trainer"]["optimizer"] == "adam"
    assert facts["environment"]["torch"] and facts["skipped"] == 0
    network, metadata = load_checkpoint(out / "model.safetensors")
    assert isinstance(network, FewShotNetwork) and network.labels == TRAIN
    assert network.head.is_empty  # no loss reads the projection
    front_end = metadata.extra["front_end"]
    assert front_end["kind"] == "fbank" and front_end["n_frames"] == 48 and front_end["std"] > 0
    code, _, err = evaluate(out / "model.safetensors")
    assert code == 0 and "known to the model" not in err
    code, _, err = evaluate(out / "model.safetensors", "--split", "train")
    assert code == 0 and "3 of 3 classes of split train are known to the model" in err


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(train, config, clips, split, tmp_path):
    """With all that is random: dropout, the order of views, masks, negatives, segments."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = (*SPEC, "--head.fusion", "true", "--head.projection", "[8,8]", "--contrastive.kind", "cpl",
             "--contrastive.n_negatives", "1", "--views.train_query", "true", "--encoder.drop_path", "0.2",
             "--episodes.per_epoch", "8", "--trainer.save_every", "1")  # fmt: skip
    assert train(*words, out=whole)[0] == 0
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    given = ("--config", config, "--data", clips, "--classes.split", split, "--out", killed, *words)
    command = [sys.executable, "-m", "tome_audio.cli.main", "fewshot", "train", *map(str, given)]
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while child.poll() is None and not list((killed / "checkpoints").glob("epoch-*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (killed / "model.safetensors").exists(), "the run had ended before it could be killed"
    code, _, err = train(*words, out=killed)
    assert code == 2 and "resume" in err
    assert train(*words, "--resume", out=killed)[0] == 0
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    histories = [pd.read_csv(folder / "epochs.csv").drop(columns="seconds") for folder in (whole, killed)]
    pd.testing.assert_frame_equal(*histories)
    code, _, err = train(*words, "--resume", "--contrastive.temperature", "2", out=killed)
    assert code == 2 and "contrastive.temperature was 1.0, now 2.0" in err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cnn", CNN),
        ("crnn", (*CNN, "--encoder.kind", "crnn", "--head.distance", "euclidean")),
        ("ast", ("--head.distance", "cosine", "--head.temperature", "0.1")),
        ("timm", ("--encoder.kind", "timm", "--encoder.timm_name", "mobilenetv3_small_050")),
    ],
)
def test_every_encoder_is_trained_and_scored(train, evaluate, tmp_path, kind, words):
    code, text, err = train(*words, *SHORT)
    assert code == 0 and f"training {kind} (" in text, err
    network, metadata = load_checkpoint(tmp_path / "out" / "model.safetensors")
    assert network.init_args["encoder"] == kind and metadata.extra["temperature"] == (0.1 if kind == "ast" else 1.0)
    code, _, err = evaluate(tmp_path / "out" / "model.safetensors")
    facts = json.loads((tmp_path / "scores" / "evaluate.json").read_text())
    wanted = {"crnn": "euclidean", "ast": "cosine"}.get(kind, "squared")
    assert code == 0 and facts["options"]["classifier"] == wanted, err


@pytest.mark.parametrize(
    ("views", "n_views"),
    [
        (SPEC, 4),
        (("--views.kind", "waveform", "--views.aug_num", "2", "--views.data", "esc50"), 3),
        (("--views.kind", "waveform", "--views.aug_num", "1"), 2),
    ],
    ids=["spec", "waveform", "measured"],
)
def test_views_are_of_the_clips_and_in_the_phases_that_are_asked_for(train, evaluate, shapes, tmp_path, views, n_views):
    if "waveform" in views:
        pytest.importorskip("audiomentations")
    own = ("--views.train_support", "false", "--views.train_query", "true", "--views.test_query", "false")
    code, _, err = train(*views, *own, *SHORT)
    assert code == 0, err
    assert shapes == [
        (True, (2, 2, 1, 1, 48, 32), (2, 2, 2, n_views, 48, 32)),
        (False, (2, 2, 1, n_views, 48, 32), (2, 2, 2, 1, 48, 32)),
    ]
    assert evaluate(tmp_path / "out" / "model.safetensors", "--n_tasks", 3)[0] == 0


def test_fusion_joins_views_and_relation_compares(train, evaluate, tmp_path):
    words = ("--head.fusion", "true", "--head.relation", "true", *SPEC, "--views.train_query", "true")
    code, _, err = train(*words, *SHORT)
    assert code == 0, err
    network, _ = load_checkpoint(tmp_path / "out" / "model.safetensors")
    assert network.head.fusion is not None and network.head.relation.dim == 4 * 16
    assert evaluate(tmp_path / "out" / "model.safetensors", "--n_tasks", 3)[0] == 0
    facts = json.loads((tmp_path / "scores" / "evaluate.json").read_text())
    assert facts["options"]["classifier"] == "relation"


def first_step(folder):
    return pd.read_csv(folder / "steps.csv").iloc[0]


def test_second_losses_are_added_with_their_weight_and_legacy_is_another(train, tmp_path):
    kinds = {"cpl": ("--contrastive.n_negatives", "1"), "apl": ("--contrastive.angle", "20")}
    found = {}
    for kind, own in kinds.items():
        for legacy in ("false", "true"):
            words = ("--contrastive.kind", kind, *own, "--contrastive.legacy", legacy, "--contrastive.weight", "0.5")
            out = tmp_path / f"{kind}-{legacy}"
            code, _, err = train(*words, "--head.projection", "[8,6]", *SHORT, out=out)
            assert code == 0, err
            step = found[kind, legacy] = first_step(out)
            assert step["loss"] == pytest.approx(step["few_shot"] + 0.5 * step["contrastive"], rel=1e-5)
            assert load_checkpoint(out / "model.safetensors")[0].head.projection.out_dim == 6
    n_queries = 2 * 2
    assert found["cpl", "true"]["contrastive"] == pytest.approx(found["cpl", "false"]["contrastive"] / n_queries)
    assert abs(found["apl", "true"]["contrastive"] - found["apl", "false"]["contrastive"]) > 1e-4


def test_merging_while_training(train, tmp_path):
    code, _, err = train(*SHORT, "--merge.r", "4,2x", "--merge.evaluate", "4")
    assert code == 0, err
    network, _ = load_checkpoint(tmp_path / "out" / "model.safetensors")
    assert type(network.encoder).__name__ == "AST" and len(network.encoder.v.blocks) == 2
    facts = json.loads((tmp_path / "out" / "train.json").read_text())
    assert facts["options"]["merge"]["r"] == "4,2x"
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert train(*SHORT, out=plain)[0] == 0  # the same seeds: what differs is the merging
    assert first_step(plain)["loss"] != first_step(out)["loss"]


@pytest.fixture
def n_embedded(monkeypatch):
    """Numbers of clips that went through the small CNN, call by call."""
    found, forward = [], ConvEncoder.forward
    monkeypatch.setattr(ConvEncoder, "forward", lambda self, x: (found.append(len(x)), forward(self, x))[1])
    return found


@pytest.mark.parametrize(
    "head", [("--head.relation", "true"), ("--contrastive.kind", "apl", "--head.projection", "[8,8]")]
)
def test_a_frozen_encoder_embeds_each_clip_once_and_stays_as_it_is(
    train, evaluate, untrained, n_embedded, tmp_path, head
):
    start = untrained()
    code, text, err = train(*CNN, *head, "--encoder.start", start, "--encoder.freeze", "true", "--trainer.epochs", "3")
    assert code == 0, err
    per_class = PER_CLASS - 2 + 2 * 3  # segments
    assert sum(n_embedded) == per_class * (len(TRAIN) + len(VALID))
    before, after = (load_checkpoint(path)[0] for path in (start, tmp_path / "out" / "model.safetensors"))
    assert all(
        torch.equal(value, after.encoder.state_dict()[name]) for name, value in before.encoder.state_dict().items()
    )
    n_trained = sum(weights.numel() for weights in after.head.parameters())
    assert f"({n_trained:,} parameters)" in text
    assert evaluate(tmp_path / "out" / "model.safetensors")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing is left to train"),
        (("--head.projection", "[8,8]"), "nothing is left to train"),
        (("--head.relation", "true", "--views.kind", "spec"), "embeds each clip once"),
        (("--head.relation", "true", "--merge.r", "4"), "is not trained merged"),
    ],
)
def test_a_frozen_encoder_refuses_what_it_cannot_do(train, untrained, words, said):
    freeze = ("--encoder.freeze", "true", "--audio.check", "false", *words)
    code, _, err = train("--encoder.start", untrained("ast"), *freeze)
    assert code == 2 and said in err


def test_a_frozen_encoder_was_trained_before(train):
    code, _, err = train("--encoder.freeze", "true", "--head.relation", "true")
    assert code == 2 and "say which with encoder.start" in err


def start_of_training(train, tmp_path, start, *words):
    """Train with a learning rate of almost nothing; return encoder weights and the metadata."""
    code, _, err = train("--encoder.start", start, "--trainer.lr", "1e-12", *words, *SHORT)
    assert code == 0, err
    network, metadata = load_checkpoint(tmp_path / "out" / "model.safetensors")
    return network.encoder.state_dict(), metadata


def test_it_starts_from_a_few_shot_network_with_its_statistics(train, untrained, tmp_path):
    start = untrained("ast", head={"relation": True})
    found, metadata = start_of_training(train, tmp_path, start, "--head.relation", "true")
    given = load_checkpoint(start)[0]
    named = [name for name, _ in given.encoder.named_parameters()]
    assert all(torch.allclose(given.encoder.state_dict()[name], found[name], atol=1e-6) for name in named)
    assert metadata.extra["front_end"]["mean"] == -8.0 and metadata.extra["front_end"]["std"] == 3.0
    head = load_checkpoint(tmp_path / "out" / "model.safetensors")[0].head.state_dict()
    assert all(torch.allclose(value, head[name], atol=1e-6) for name, value in given.head.state_dict().items())


def test_it_starts_from_a_classifier_of_train(train, checkpoint, tmp_path):
    words = ("--audio.n_frames", "64", "--audio.n_mels", "128", "--encoder.depth", "3", "--encoder.tokens", "prefix")
    words += ("--encoder.fstride", "16", "--encoder.tstride", "16")
    found, metadata = start_of_training(train, tmp_path, checkpoint, *words)
    given = load_checkpoint(checkpoint)[0].state_dict()
    assert all(torch.allclose(value, given[name], atol=1e-6) for name, value in found.items())
    assert metadata.extra["front_end"]["mean"] == -4.0 and metadata.extra["front_end"]["std"] == 4.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (CNN, "was trained on fbank features: set audio.front_end to fbank"),
        (("--encoder.kind", "cnn", "--encoder.pool", "[2,2]"), "does not fit the encoder to be trained (blocks."),
        (("--audio.n_frames", "90"), "does not fit the encoder to be trained (v.pos_embed"),
        (("--encoder.width", "32"), "does not fit the encoder to be trained (v."),
    ],
)
def test_a_start_of_another_size_is_refused(train, untrained, words, said):
    start = untrained("ast")
    code, _, err = train("--encoder.start", start, *words)
    assert code == 2 and f"{start} {said}" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--episodes.n_way", "4"), "needs 4 classes, but the training part has 3"),
        (("--episodes.valid_n_way", "3"), "needs 3 classes, but the validation part has 2"),
        (("--episodes.k_shot", "5"), "needs 7 clips of every class, but 3 of 3 classes of the training part"),
        (("--episodes.valid_n_query", "6"), "needs 7 clips of every class, but 2 of 2 classes of the validation part"),
        (("--classes.split", "no-such.json"), "there is no class split no-such.json"),
        (("--episodes.n_way", "1"), "n_way of an episode must be at least 2"),
        (("--contrastive.kind", "cpl"), "n_negatives is 3, but a class has 2 queries"),
        (("--encoder.kind", "cnn"), "4 poolings by 3 leave nothing of 32 mel bins"),
        (("--head.fusion", "true"), "fusion joins the views of a clip"),
        (("--views.kind", "spec", "--views.warp", "30"), "a warp of 30 frames needs more than 60 frames, got 48"),
        ((*CNN, "--merge.r", "4"), "no encoder of a known family"),
        (("--audio.mean", "1.0"), "give both audio.mean and audio.std"),
        (("--encoder.start", "nothing.safetensors"), "nothing.safetensors"),
        (("--encoder.kind", "rnn"), "encoder.kind"),
        (("--threads", "0"), "--threads must be at least 1"),
        (("--episodes.per_epoch", "0"), "episodes.per_epoch must be at least 1, got 0"),
        (("--episodes.valid", "-1"), "episodes.valid must be at least 0, got -1"),
        (("--data", "nowhere"), "nowhere"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_sentence(train, tmp_path, words, said):
    # Nothing that is refused needs features to be computed first.
    code, _, err = train("--audio.check", "false", *words)
    assert code == 2 and said in err, err
    assert not list((tmp_path / "out").glob("*.safetensors"))
