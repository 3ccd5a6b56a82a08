"""Every recipe: its shell is sound, its options are known, its papers are there; the smoke recipe runs end to end."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from warm_tool import start

from tome_audio.cli.main import _commands, _parser

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.parent for path in (ROOT / "egs").glob("*/run.sh"))
CONFIGS = sorted((ROOT / "egs").rglob("conf/*.yaml"))
FEW_SHOT, SAMPLE_ID = ROOT / "egs" / "fewshot", ROOT / "egs" / "sample_id"
SHARED = [recipe for recipe in RECIPES if "recipe.sh" in (recipe / "run.sh").read_text()]
CORPORA = [recipe for recipe in SHARED if recipe not in (FEW_SHOT, SAMPLE_ID)]
SMALL = [config for config in CONFIGS if config.parent.parent not in SHARED]
STAGES = ["download", "manifest", "train", "teacher-logits", "train", "evaluate", "results"]


def test_there_are_recipes():
    assert RECIPES and CONFIGS and SMALL
    assert {recipe.name for recipe in CORPORA} >= {"speechcommands", "esc50", "fsdd", "audioset"}
    assert FEW_SHOT in SHARED and SAMPLE_ID in SHARED
    assert all("--smoke" in (recipe / "run.sh").read_text() for recipe in SHARED)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_a_recipe_is_complete_and_thin(recipe):
    for name in ("README.md", "RESULTS.md"):
        assert (recipe / name).stat().st_size > 0
    script = (recipe / "run.sh").read_text()
    assert len(script.splitlines()) <= 80 and "set -euo pipefail" in script and os.access(recipe / "run.sh", os.X_OK)
    assert not list(recipe.glob("*.py"))
    subprocess.run(["bash", "-n", recipe / "run.sh"], check=True)


@pytest.mark.parametrize("recipe", SHARED, ids=lambda p: p.name)
def test_what_recipes_share_is_written_once(recipe):
    shared, script = ROOT / "egs" / "recipe.sh", (recipe / "run.sh").read_text()
    subprocess.run(["bash", "-n", shared], check=True)
    assert 'source "$here/../recipe.sh"' in script
    for line in shared.read_text().splitlines():
        assert line.startswith("#") or len(line) < 12 or line not in script.splitlines(), line


# Those of `tome-audio train` are read in test_configs.py: which run.sh takes is a matter of its options.
@pytest.mark.parametrize("config", SMALL, ids=lambda p: f"{p.parent.parent.name}/{p.name}")
def test_a_config_is_read_by_its_command(config):
    command = next(line for line in (config.parent.parent / "run.sh").read_text().splitlines() if config.name in line)
    words = command.split()
    name = words[words.index("tome-audio") + 1]
    parsed = _parser(_commands()).parse_args([name, "--config", str(config)])
    for key, value in yaml.safe_load(config.read_text()).items():
        assert parsed[name][key] == value


@pytest.mark.recipe
def test_the_smoke_recipe_runs_end_to_end(tmp_path):
    tool = tmp_path / "bin" / "tome-audio"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tome_audio.cli.main "$@"\n')
    tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "egs" / "smoke" / "run.sh"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nstage ") + done.stdout.startswith("stage ") == 4
    table = pd.read_csv(tmp_path / "out" / "sweep" / "sweep.csv")
    assert (table["n_clips"] == 20).all() and table["macs_cut"].is_monotonic_increasing
    assert (tmp_path / "out" / "merged.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    """The environment in which `tome-audio` is found."""
    pytest.importorskip("accelerate")
    pytest.importorskip("torchmetrics")
    folder = tmp_path_factory.mktemp("tool")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    server = start(folder, env)
    yield {**env, "PATH": f"{folder}:{os.environ['PATH']}"}
    server.kill()
    server.wait()


def call(recipe, env, *words):
    command = ["bash", str(recipe / "run.sh"), *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.recipe
@pytest.mark.parametrize("recipe", CORPORA, ids=lambda p: p.name)
def test_a_recipe_runs_from_end_to_end(recipe, tool, tmp_path):
    before = (recipe / "RESULTS.md").read_text()
    done = call(recipe, tool, "--smoke", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    stages = [line.split() for line in done.stdout.splitlines() if line.startswith("stage ")]
    assert [words[3] for words in stages] == STAGES
    assert [words[1] for words in stages] == ["0:", "1:", "2:", "2:", "3:", "4:", "5:"]
    (table,) = tmp_path.rglob("evaluate.csv")
    scored = pd.read_csv(table)
    assert list(scored["r"].astype(str)) == ["0", "2x"] and scored["macs_cut"][1] > 1.5
    written = (tmp_path / "RESULTS.md").read_text()
    assert "| 0 |" in written and "| 2x |" in written and "run.sh --smoke" in written
    assert (recipe / "RESULTS.md").read_text() == before
    again = call(recipe, tool, "--smoke", "--out", tmp_path, "--stage", 3, "--stop-stage", 3)  # it goes on where it was
    assert again.returncode == 0 and again.stdout.count("stage ") == 1, again.stderr


@pytest.mark.parametrize("recipe", SHARED, ids=lambda p: p.name)
def test_a_recipe_refuses_what_it_does_not_know(recipe):
    for words in (["--no-such-option", "1"], ["--stage"]):
        done = call(recipe, os.environ, *words)
        assert done.returncode == 2 and "usage: run.sh" in done.stderr and not done.stdout


@pytest.fixture
def echo(tmp_path):
    """The environment in which `tome-audio` does nothing, so that the stages show."""
    (tmp_path / "tome-audio").write_text("#!/bin/sh\n")
    (tmp_path / "tome-audio").chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize("recipe", CORPORA, ids=lambda p: p.name)
def test_a_recipe_trains_merged_and_with_a_teacher_in_the_loop(recipe, echo):
    words = ("--data", "D", "--out", "O", "--config", "small_kd", "--seed", 3, "--train-r", "2x", "--online")
    lines = call(recipe, echo, *words, "--stage", 2, "--stop-stage", 4).stdout.splitlines()
    assert [line.split(" --")[0] for line in lines] == [
        "stage 2: tome-audio train", "stage 3: tome-audio train", "stage 4: tome-audio evaluate",
    ]  # fmt: skip
    folder = lines[0].split("--out ")[1].split()[0]
    assert "--trainer.seed 3" in lines[0] and f"--distill.model {folder}/model.safetensors" in lines[1]
    assert "--merge.r 2x --merge.evaluate 2x" in lines[1] and "-at2x-seed3/evaluate" in lines[2]


@pytest.mark.parametrize("recipe", CORPORA, ids=lambda p: p.name)
def test_what_learns_from_labels_alone_trains_no_teacher(recipe, echo):
    for config in ("small", "teacher_small"):
        lines = call(recipe, echo, "--data", "D", "--config", config, "--stop-stage", 3).stdout.splitlines()
        assert [line.split(":")[0] for line in lines] == ["stage 1", "stage 3"], config


def test_a_table_has_every_model_with_every_seed_and_a_teacher_once(tmp_path, echo):
    (tmp_path / "tome-audio").write_text(f'#!/bin/sh\n[ "$1" = results ] && echo "$@" > "{tmp_path}/results"\nexit 0\n')
    words = ("fsdd", "Digits", "teacher_small small small_kd", "0 1", "0 2x", "--data", "D", "--out", "O")
    done = subprocess.run(
        ["bash", ROOT / "egs" / "table.sh", *words], env=echo, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    given = (tmp_path / "results").read_text().split(" --append ")
    names = ["teacher_small-upstream", "small-upstream", "small-upstream-at2x", "small_kd-upstream"]
    names.append("small_kd-upstream-at2x")
    assert given[0].split() == ["results", *(f"O/{name}-seed{seed}/evaluate" for name in names for seed in (0, 1))]
    assert "--title Digits --command bash egs/table.sh fsdd 'Digits'" in given[1] and "--data DIR" in given[1]
    broken = subprocess.run(
        ["bash", ROOT / "egs" / "table.sh", *words[:4]], env=echo, capture_output=True, text=True, check=False
    )
    assert broken.returncode == 2 and "usage: table.sh" in broken.stderr


@pytest.mark.parametrize("recipe", CORPORA, ids=lambda p: p.name)
def test_a_recipes_own_option_reaches_the_manifest_and_the_names_of_its_folders(recipe, echo):
    usage = call(recipe, echo, "--help").stderr
    own = usage.split("[--out DIR] [")[1].split(" X]")[0]
    words = ("--data", "D", "--out", "O", own, "value", "--config", "smoke", "--seed", 3, "--stage", 1)
    done = call(recipe, echo, *words, "--stop-stage", 3, "--", "--merge.r", "2x")
    manifest, *_, train = done.stdout.splitlines()
    assert done.returncode == 0 and manifest.startswith("stage 1: tome-audio manifest --data D --out O/data-value ")
    assert f"--corpus.name {recipe.name} " in manifest and " value" in manifest.split("--corpus.name")[1]
    # A fold is named as one: `tome-audio results` takes the folds of a model together.
    named = "foldvalue" if own == "--fold" else "value"
    assert f"--data O/data-value --out O/smoke-{named}-seed3 --resume --trainer.seed 3 " in train
    assert train.endswith(" --merge.r 2x") and "RESULTS.md" not in done.stdout


@pytest.mark.parametrize("recipe", CORPORA, ids=lambda p: p.name)
def test_every_option_of_the_reference_command_has_its_counterpart(recipe):
    text = (recipe / "README.md").read_text()
    options = ("model", "dataset", "data-train", "data-val", "data-eval", "exp-dir", "label-csv", "n_class", "lr",
               "n-epochs", "batch-size", "save_model", "freqm", "timem", "mixup", "bal", "tstride", "fstride",
               "imagenet_pretrain", "audioset_pretrain", "num-workers", "optim", "n-print-steps", "dataset_mean",
               "dataset_std", "audio_length", "noise", "metrics", "loss", "warmup", "lrscheduler_start",
               "lrscheduler_step", "lrscheduler_decay", "wa", "wa_start", "wa_end", "kd_lambda", "temperature",
               "teachers_preds")  # fmt: skip
    lacking = [option for option in options if f"`--{option}`" not in text]
    assert not lacking


@pytest.mark.recipe
def test_the_few_shot_recipe_runs_from_end_to_end(tool, tmp_path):
    before = (FEW_SHOT / "RESULTS.md").read_text()
    done = call(FEW_SHOT, tool, "--smoke", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert stages(done) == [
        "0: tome-audio download", "1: tome-audio manifest", "2: tome-audio manifest", "2: tome-audio train",
        "3: tome-audio fewshot train", "4: tome-audio fewshot evaluate", "5: tome-audio results",
    ]  # fmt: skip
    (table,) = tmp_path.rglob("evaluate.csv")
    scored = pd.read_csv(table)
    assert list(scored["r"].astype(str)) == ["0", "2x"] and scored["macs_cut"][1] > 1.5
    assert (scored["n_tasks"] == 50).all()
    written = (tmp_path / "RESULTS.md").read_text()
    assert "50 tasks, 3-way 2-shot 2-query" in written and "| 2x |" in written and "run.sh --smoke" in written
    assert (FEW_SHOT / "RESULTS.md").read_text() == before
    again = call(FEW_SHOT, tool, "--smoke", "--out", tmp_path, "--stage", 3, "--stop-stage", 3)
    assert again.returncode == 0 and again.stdout.count("stage ") == 1, again.stderr


def stages(done):
    """Return number and command of every stage that was run."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("stage ")]
    return [re.split(" -| /", line.removeprefix("stage "))[0] for line in lines]


def few_shot_lines(env, *words):
    done = call(FEW_SHOT, env, "--data", "D", "--out", "O", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_few_shot_recipe_hands_its_options_on(echo):
    own = ("--corpus", "words", "--classes", "S.json", "--add", "[E,F]", "--k-shot", 3, "--n-query", 2, "--n-tasks", 9)
    own += ("--classifier", "cosine", "--config", "words", "--seed", 4, "--r", "0,2x", "--train-r", "2x")
    manifest, part, learn, train, evaluate, results = few_shot_lines(echo, *own, "--", "--episodes.valid", 7)
    clips = "O/data-words"
    assert manifest == f"stage 1: tome-audio manifest --data D --out {clips} --add [E,F]"  # a folder of no known corpus
    assert part.endswith(f"--data {clips} --out O/pretrain-words-words-seed4/data --classes S.json --part train")
    assert "conf/pretrain_words.yaml --data O/pretrain-words-words-seed4/data" in learn and "--trainer.seed 4" in learn
    run = "O/words-words-at2x-seed4"
    assert f"conf/words.yaml --data {clips} --out {run} --resume --trainer.seed 4 --classes.split S.json " in train
    assert "--encoder.start O/pretrain-words-words-seed4/model.safetensors --merge.r 2x --merge.evaluate 2x" in train
    assert train.endswith(" --episodes.valid 7") and "--episodes.valid" not in evaluate
    assert f"--model {run}/model.safetensors --data {clips} --classes.split S.json --r 0,2x --n_way 5 " in evaluate
    assert "--k_shot 3 --n_query 2 --n_tasks 9 --classifier cosine" in evaluate
    folder = evaluate.split("--out ")[1]
    assert folder.startswith(run) and results.startswith(f"stage 5: tome-audio results {folder} ")


@pytest.mark.parametrize("config", [*sorted(path.stem for path in (FEW_SHOT / "conf").glob("[!p]*.yaml")), "plain"])
def test_presets_come_on_top_of_the_scenarios_alone(config, echo):
    for corpus in ("nsynth", "words"):
        words = ("--config", config, "--corpus", corpus, "--stage", 3, "--stop-stage", 4)
        train, evaluate = few_shot_lines(echo, *words)
        scenario = config.split("_")[0] in ("plain", "enriched", "attention", "contrastive", "augmented", "relation")
        with_preset = f"conf/{config}.yaml --config {FEW_SHOT}/presets/{corpus}.yaml " in train
        assert with_preset == (scenario and corpus == "nsynth"), train
        shots = "--k_shot 1 --n_query 1" if config in ("metaaudio", "wide") else "--k_shot 5 --n_query 5"
        assert shots in evaluate and "--classes.split" not in train


def test_the_corpora_that_can_be_fetched_are_named_to_the_manifest(echo):
    for corpus, named in (("esc50", True), ("speechcommands", True), ("fsdd", True), ("voxceleb", False)):
        (line,) = few_shot_lines(echo, "--corpus", corpus, "--stop-stage", 1)
        assert (f"--corpus.name {corpus}" in line) == named and f"--out O/data-{corpus}" in line


@pytest.mark.recipe
def test_the_sample_id_recipe_runs_from_end_to_end(tool, tmp_path):
    pytest.importorskip("librosa")
    before = (SAMPLE_ID / "RESULTS.md").read_text()
    done = call(SAMPLE_ID, tool, "--smoke", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert stages(done) == [
        "0: tome-audio sampleid generate", "3: tome-audio sampleid train", "4: tome-audio sampleid evaluate",
        "5: tome-audio results",
    ]  # fmt: skip
    (table,) = tmp_path.rglob("evaluate.csv")
    scored = pd.read_csv(table)
    assert list(scored["r"].astype(str)) == ["0", "2x"] and scored["macs_cut"][1] > 1.5
    assert (scored["n_clips"] == 2).all() and (scored["n_references"] == 5).all() and scored["mean_ap"].gt(0).all()
    written = (tmp_path / "RESULTS.md").read_text()
    assert "2 songs with a sample, 1 without, and 5 references" in written and "| 2x |" in written
    assert "run.sh --smoke" in written and (SAMPLE_ID / "RESULTS.md").read_text() == before
    again = call(SAMPLE_ID, tool, "--smoke", "--out", tmp_path, "--stage", 0, "--stop-stage", 3)
    assert again.returncode == 0 and again.stdout.count("stage ") == 2, again.stderr


@pytest.mark.recipe
def test_the_closed_set_of_the_sample_id_recipe_runs_from_end_to_end(tool, tmp_path):
    done = call(SAMPLE_ID, tool, "--smoke", "--mode", "closed-set", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert stages(done) == [
        "0: tome-audio sampleid generate", "3: tome-audio sampleid closed-set", "5: tome-audio results",
    ]  # fmt: skip
    (run,) = (path.parent for path in tmp_path.rglob("error.png"))
    songs = pd.read_csv(run / "songs.csv")
    assert dict(songs["split"].value_counts()) == {"train": 6, "unseen": 3}
    written = (tmp_path / "RESULTS.md").read_text()
    assert "| closed_set_smoke-train | 0 |" in written and "| closed_set_smoke-unseen | 2x |" in written


def sample_id_lines(env, *words):
    done = call(SAMPLE_ID, env, "--out", "O", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_sample_id_recipe_hands_its_options_on(echo):
    words = ("--seed", 4, "--r", "0,2x", "--train-r", "2x", "--", "--encoder.depth", 6)
    generate, train, evaluate, results = sample_id_lines(echo, *words)
    world = "O/world-full-seed4"
    assert "conf/world_full.yaml --seed 4" in generate and f"generate {world} " in generate
    run = "O/small-at2x-seed4"
    assert f"conf/small.yaml --data {world} --out {run} --resume --trainer.seed 4 " in train
    assert train.endswith("--merge.r 2x --merge.evaluate 2x --encoder.depth 6") and "--encoder.depth" not in evaluate
    assert f"--model {run}/model.safetensors --data {world} --r 0,2x --threshold_part valid" in evaluate
    assert evaluate.endswith(f"--out {run}/evaluate")  # as table.sh looks for it
    assert results.startswith(f"stage 5: tome-audio results {run}/evaluate ")


def test_the_sample_id_recipe_takes_other_audio_and_other_models(echo):
    words = ("--data", "TABLES", "--audio", "SONGS", "--model", "m/encoder.safetensors")
    evaluate, results = sample_id_lines(echo, *words)
    assert "--model m/encoder.safetensors --data TABLES" in evaluate and "--audio SONGS" in evaluate
    assert "--threshold_part" not in evaluate and "O/encoder-seed0/evaluate" in results
    generate, *_ = sample_id_lines(echo, "--material", "CLIPS", "--stop-stage", 0)
    assert "generate O/world-clips-seed0 --config" in generate and "conf/world_clips.yaml" in generate
    assert generate.endswith("--material CLIPS")
    generate, train, results = sample_id_lines(echo, "--mode", "closed-set", "--seed", 1)
    assert "conf/world_closed_set.yaml" in generate and "conf/closed_set_small.yaml" in train
    assert "--out O/closed_set_small-seed1 --r 0,2x,3x --seed 1 --trainer.seed 1 --resume" in train
    assert "results O/closed_set_small-seed1/evaluate-" in results
    done = call(SAMPLE_ID, echo, "--mode", "open-set")
    assert done.returncode == 2 and "retrieval, closed-set" in done.stderr
