"""Search for settings on validation classes: trials, going on, what is never read, and what cannot be searched."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from generated_clips import TEST, write_manifest

from tome_audio.cli.fewshot import tune as command
from tome_audio.cli.fewshot.config import EncoderConfig, ViewsConfig
from tome_audio.cli.fewshot.train import META_AUDIO
from tome_audio.cli.fewshot.tune import parse_space, with_settings
from tome_audio.data.manifest_files import read_manifest_csv

pytest.importorskip("accelerate")
pytest.importorskip("optuna")
ROOT = Path(__file__).parent.parent.parent.parent
SHORT = ("--trainer.epochs", "1", "--episodes.per_epoch", "2", "--episodes.valid", "4")
SPACE = "[trainer.lr=1e-6..1e-2:log, head.distance=squared|cosine, encoder.width=16|32]"
GROUPS = {"trainer": META_AUDIO, "views": ViewsConfig(), "encoder": EncoderConfig()}


@pytest.fixture
def tune(run, config, clips, split, tmp_path):
    """Run `tome-audio fewshot tune` on the clips, into the folder `tuned`."""

    def call(space, n_trials, *words, data=clips):
        given = ("--config", config, "--data", data, "--classes.split", split, "--out", tmp_path / "tuned")
        return run("fewshot", "tune", *given, "--space", space, "--n_trials", n_trials, *SHORT, *words)

    return call


def drawn(folder):
    table = pd.read_csv(folder / "trials.csv")
    return [tuple(row) for row in table.filter(like="params_").itertuples(index=False)]


def test_trials_are_kept_a_search_goes_on_and_the_best_is_taken_by_train(tune, train, tmp_path):
    out = tmp_path / "tuned"
    code, text, err = tune(SPACE, 2)
    assert code == 0 and "best of 2 trials" in text, err
    table = pd.read_csv(out / "trials.csv")
    for number, row in table.iterrows():
        facts = json.loads((out / f"trial-{number}" / "train.json").read_text())
        assert row["value"] == pytest.approx(facts["valid"]["accuracy"])
        assert facts["options"]["trainer"]["lr"] == pytest.approx(row["params_trainer.lr"])
        assert facts["options"]["head"]["distance"] == row["params_head.distance"]
        assert facts["options"]["encoder"]["width"] == row["params_encoder.width"]
    first = drawn(out)
    code, text, err = tune(SPACE, 3)  # one more
    assert code == 0 and text.count("training ast") == 1, err
    assert drawn(out)[:2] == first and len(set(drawn(out))) == 3  # a search that goes on does not begin again
    assert tune(SPACE, 3)[1].count("training ast") == 0
    best = json.loads((out / "best.yaml").read_text())
    table = pd.read_csv(out / "trials.csv")
    chosen = table.loc[table["value"].idxmax()]
    assert best["trainer"]["lr"] == pytest.approx(chosen["params_trainer.lr"])
    code, _, err = train(*SHORT, "--config", out / "best.yaml")
    options = json.loads((tmp_path / "out" / "train.json").read_text())["options"]
    assert code == 0 and options["trainer"]["lr"] == best["trainer"]["lr"], err
    assert options["encoder"]["width"] == best["encoder"]["width"] and options["encoder"]["depth"] == 2
    code, _, err = tune("[trainer.lr=1e-6..1e-2]", 4)
    assert code == 2 and "tuned holds another search" in err
    code, _, err = tune(SPACE, 4, "--episodes.k_shot", "2")
    assert code == 2 and "tuned holds another search" in err


def test_small_numbers_in_the_best_settings_are_read_back(tune, train, tmp_path):
    assert tune("[trainer.lr=1e-8|1e-9]", 1)[0] == 0
    assert train(*SHORT, "--config", tmp_path / "tuned" / "best.yaml")[0] == 0
    assert json.loads((tmp_path / "out" / "train.json").read_text())["options"]["trainer"]["lr"] in (1e-8, 1e-9)


def test_classes_to_test_on_are_never_read(tune, clips, tmp_path):
    found = read_manifest_csv(clips / "manifest.csv", label_csv=clips / "labels.csv")
    gone = tmp_path / "gone"
    entries = [replace(e, path=gone / e.path.name) if e.labels[0] in TEST else e for e in found.entries]
    data = write_manifest(replace(found, entries=tuple(entries)), tmp_path / "without")
    assert not gone.exists()
    code, _, err = tune("[trainer.lr=1e-4|1e-3]", 1, data=data)
    assert code == 0 and "missing" not in err, err


def test_a_killed_trial_is_ended_in_its_folder_with_its_settings(tune, config, clips, split, tmp_path):
    out = tmp_path / "tuned"
    space, long = "[trainer.lr=1e-4..1e-2:log]", ("--episodes.per_epoch", "8", "--trainer.save_every", "1")
    given = ("--config", config, "--data", clips, "--classes.split", split, "--out", out, "--space", space)
    command = [sys.executable, "-m", "tome_audio.cli.main", "fewshot", "tune", *map(str, given), "--n_trials", "1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([*command, *SHORT, *long], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while child.poll() is None and not list((out / "trial-0" / "checkpoints").glob("epoch-*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (out / "trial-0" / "train.json").exists(), "the trial had ended before it could be killed"
    code, _, err = tune(space, 1, *long)
    assert code == 0 and [path.name for path in out.glob("trial-*")] == ["trial-0"], err
    assert len(pd.read_csv(out / "trial-0" / "steps.csv")) == 4
    table = pd.read_csv(out / "trials.csv")
    assert table["state"].tolist() == ["FAIL", "COMPLETE"] and table["params_trainer.lr"].nunique() == 1


def test_a_trial_that_diverges_does_not_end_the_search(tune, tmp_path, monkeypatch):
    def first_far_too_large(trial, name, values):
        return trial.suggest_float(name, *((1e30, 1e30) if trial.number == 0 else (1e-4, 1e-4)))

    monkeypatch.setattr(command, "_suggest", first_far_too_large)
    code, _, err = tune("[trainer.lr=1e-4..1e30]", 1, "--episodes.per_epoch", "4")
    assert code == 2 and "trial 0 has no result" in err and "every trial diverged" in err
    assert not (tmp_path / "tuned" / "best.yaml").exists()
    code, text, err = tune("[trainer.lr=1e-4..1e30]", 2, "--episodes.per_epoch", "4")
    assert code == 0 and "best of 2 trials" in text, err
    assert pd.read_csv(tmp_path / "tuned" / "trials.csv")["state"].tolist() == ["PRUNED", "COMPLETE"]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("[]", "there is nothing to search"),
        ("[trainer.rate=1..2]", "'trainer.rate=1..2' names no option"),
        ("[trainer=1..2]", "names no option"),
        ("[lr=1..2]", "names no option"),
        ("[trainer.learning_rate=1..2]", "names no option"),
        ("[views.n_views=1..2]", "names no option"),
        ("[trainer.lr]", "names no option"),
        ("[trainer.lr=]", "names no option"),
        ("[trainer.lr=2..1]", "no range from a smaller to a larger number"),
        ("[head.distance=cosine..squared]", "no range from a smaller to a larger number"),
        ("[trainer.lr=0..1:log]", "it must begin above 0"),
        ("[trainer.lr=1..2:linear]", "'1..2:linear' is no value of this option"),
        ("[encoder.width=8.5..16]", "'8.5' is no value of this option"),
        ("[head.distance=cosine|manhattan]", "'manhattan' is no value of this option"),
        ("[trainer.lr=small|large]", "'small' is no value of this option"),
        ("[trainer.lr=1e-3|-1]", "lr must be positive, got -1"),
        ("[trainer.lr=-1..1]", "lr must be positive, got -1"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(tune, tmp_path, space, said):
    code, _, err = tune(space, 1)
    assert code == 2 and said in err, err
    assert not list(tmp_path.glob("tuned/trial-*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--episodes.valid", "0"), "tuning needs validation episodes"),
        (("--n_trials", "0"), "--n_trials must be at least 1"),
        (("--episodes.n_way", "4"), "needs 4 classes, but the training part has 3"),
        (("--classes.split", "no-such.json"), "there is no class split no-such.json"),
    ],
)
def test_what_cannot_be_tuned_is_one_sentence(tune, words, said, caplog):
    code, _, err = tune("[trainer.lr=1e-4..1e-3]", 1, *words)
    assert code == 2 and said in err, err
    assert not caplog.text  # Optuna has nothing to add


def test_a_space_is_read():
    texts = ["trainer.lr=1e-4..1e-2:log", " views.p = 0.25..0.5 ", "views.mask_param=4..20"]
    texts += ["trainer.learning_rate.decay=0.1..0.9", "encoder.variant=null|tiny224", "encoder.freeze=true|false"]
    assert parse_space(texts, GROUPS) == {
        "trainer.lr": (1e-4, 1e-2, True),
        "views.p": (0.25, 0.5, False),
        "views.mask_param": (4, 20, False),
        "trainer.learning_rate.decay": (0.1, 0.9, False),
        "encoder.variant": [None, "tiny224"],
        "encoder.freeze": [True, False],
    }


def test_settings_go_into_their_groups():
    changed = with_settings(GROUPS, {"trainer.learning_rate.decay": 0.3, "trainer.lr": 0.2, "views.p": 0.5})
    trainer = changed["trainer"]
    assert (trainer.lr, trainer.learning_rate.decay, changed["views"].p) == (0.2, 0.3, 0.5)
    assert trainer.learning_rate.curve == "multistep" and changed["encoder"] is GROUPS["encoder"]
    assert META_AUDIO.lr == 5e-4
