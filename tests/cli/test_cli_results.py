"""`tome-audio results`: evaluations of one thing over seeds and folds are one row, different things are several."""

import json
import math

import pytest

from tome_audio.cli.results import group_name


def evaluated(folder, rows, commit="abc", split="test"):
    folder.mkdir(parents=True)
    environment = {"commit": commit, "torch": "2.11.0", "cpu": "a CPU"}
    text = json.dumps({"rows": rows, "options": {"split": split}, "environment": environment})
    (folder / "evaluate.json").write_text(text)
    return folder


def row(r, accuracy, **more):
    return {"r": r, "accuracy": accuracy, "n_clips": 10, **more}


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/small-12-seed0/evaluate", "small-12"),
        ("runs/small-fold3-seed11-2x/evaluate", "small-2x"),
        ("runs/small_kd", "small_kd"),
        ("runs/seed0/evaluate", "seed0"),
    ],
)
def test_a_group_is_named_without_seed_and_fold(folder, name):
    assert group_name(folder) == name


def test_seeds_are_averaged_and_models_stand_below_each_other(tmp_path, run):
    folders = [
        evaluated(tmp_path / "small-seed0" / "evaluate", [row("0", 50.0, macs_cut=1.0), row("2x", 40.0, macs_cut=2.0)]),
        evaluated(tmp_path / "small-seed1" / "evaluate", [row("0", 60.0, macs_cut=1.0), row("2x", 44.0, macs_cut=2.0)]),
        evaluated(tmp_path / "cnn-seed0" / "evaluate", [row("unpatched", 70.0)], commit="def"),
    ]
    code, text, _ = run("results", *folders, "--title", "Words", "--append", tmp_path / "RESULTS.md")
    written = (tmp_path / "RESULTS.md").read_text()
    assert code == 0 and written == f"# Results\n\n{text.strip()}\n"
    lines = written.splitlines()
    assert "| model | r | accuracy % | MACs cut |" in lines
    assert (
        "| small | 0 | 55.00 ± 5.00 | 1.00 ± 0.00 |" in lines and "| small | 2x | 42.00 ± 2.00 | 2.00 ± 0.00 |" in lines
    )
    assert "| cnn | unpatched | 70.00 |  |" in lines
    assert "over 1 or 2 runs" in written and "Commit abc" in written and "Commit def" in written


def test_the_spread_is_that_of_the_population(tmp_path, run):
    values = [1.0, 2.0, 6.0]
    folders = [evaluated(tmp_path / f"m-fold{i}", [row("0", value)]) for i, value in enumerate(values)]
    mean = sum(values) / 3
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 3)
    assert f"| 0 | {mean:.2f} ± {spread:.2f} |" in run("results", *folders)[1]


def few_shot_run(folder, accuracy, interval, n_tasks=10000):
    evaluated(folder, [row("unpatched", accuracy, interval=interval)])
    path = folder / "evaluate.json"
    found = json.loads(path.read_text())
    found["options"] |= {"n_tasks": n_tasks, "episodes": "5-way 1-shot 1-query", "classifier": "squared"}
    path.write_text(json.dumps(found))
    return folder


def test_tasks_have_their_shape_and_their_interval_in_the_table(tmp_path, run):
    folders = [few_shot_run(tmp_path / f"m-seed{i}" / "evaluate-1shot", 68.0 + i, 0.38) for i in range(2)]
    code, text, _ = run("results", folders[0])
    assert code == 0 and "10000 tasks, 5-way 1-shot 1-query, classifier squared, on 10 clips" in text
    assert "| r | accuracy % | 95 % interval ± |" in text and "| unpatched | 68.00 | 0.3800 |" in text
    code, text, _ = run("results", *folders)
    assert code == 0 and "| unpatched | 68.50 ± 0.50 | 0.3800 ± 0.0000 |" in text and "over 2 runs" in text


def test_tasks_and_clips_are_not_put_into_one_table(tmp_path, run):
    tasks = few_shot_run(tmp_path / "few-seed0", 68.0, 0.38)
    clips = evaluated(tmp_path / "plain-seed0", [row("unpatched", 70.0)])
    code, _, err = run("results", tasks, clips)
    assert code == 2 and "over tasks and over clips do not belong in one table" in err
