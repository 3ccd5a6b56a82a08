import json
import shutil

import pytest
from bench_runs import ENVIRONMENT, full_run, record, write_run

from tome_audio.evaluation.record_tables import BLOCKS, NOTHING

STEM = "ast_base-1024-torch2.11-cpu"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "bench.json", full_run())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def readme(path, names=tuple(BLOCKS)):
    path.write_text(
        "# Title\n\n" + "\n\n".join(f"{n}:\n<!-- bench:{n} -->\nold\n<!-- /bench -->" for n in names) + "\n"
    )
    return path


def test_a_full_run_gives_every_table_figure_and_block_and_twice_the_same_bytes(tmp_path, full, run):
    out, text = tmp_path / "results", readme(tmp_path / "README.md")
    code, printed, err = run("bench-report", full, "--out", out, "--readme", text)
    assert code == 0 and err == ""
    first, filled = contents(out), text.read_text()
    figures = {name for name in first if name.endswith(".png")}
    assert figures == {
        f"{name}-torch2.11-cpu.png" for name in (
            "accuracy_macs", "accuracy_speedup", "speedup_macs-float32", "speedup_macs-bfloat16", "stages-end_to_end",
            "stages-merge_overhead", "scaling-float32",
        )
    }  # fmt: skip
    assert {name.replace(".png", ".svg") for name in figures} <= set(first)
    assert all(name in printed for name in figures) and "not drawn" in printed and "scaling-bfloat16" in printed
    assert NOTHING not in filled and "old" not in filled and "`results/kwt1-torch2.11-cpu.csv`" in filled
    assert "Synthetic CPU" in filled and "commit 0123456789ab" in filled
    code, _, _ = run("bench-report", full, "--out", out, "--readme", text)
    assert code == 0 and contents(out) == first and text.read_text() == filled
    # A clean clone has the tables but not the run.
    code, _, _ = run("bench-report", "--out", out, "--readme", readme(text))
    assert code == 0 and contents(out) == first and text.read_text() == filled


def test_two_runs_at_once_and_one_after_the_other_are_the_same(tmp_path, run):
    first = write_run(tmp_path / "1.json", [record(r="32"), record(r="64", commit="aaa"), record("memory")])
    second = write_run(
        tmp_path / "2.json", [record(r="64", commit="bbb", speedup=1.3, speedup_low=1.2), record("accuracy", "kwt1")],
        date="2030-02-02T00:00:00",
    )  # fmt: skip
    assert run("bench-report", first, second, "--out", tmp_path / "both")[0] == 0
    for path in (first, second):
        assert run("bench-report", path, "--out", tmp_path / "each")[0] == 0
    both = contents(tmp_path / "both")
    assert both == contents(tmp_path / "each")
    facts = json.loads(both[f"{STEM}.json"])["environments"]
    assert set(facts) == {"0123456789ab", "bbb"}  # the row of aaa was measured again
    assert ENVIRONMENT.items() <= facts["bbb"][0].items()


def test_tables_of_sweep_are_left_alone(tmp_path, run):
    (tmp_path / "demo-torch2.11-cpu.csv").write_text("r,tokens_left,macs_cut\n0,99,1.0\n")
    (tmp_path / "demo-torch2.11-cpu.json").write_text('{"options": {}}')
    before = contents(tmp_path)
    path = write_run(tmp_path / "run.json", [record()])
    assert run("bench-report", path, "--out", tmp_path)[0] == 0
    after = contents(tmp_path)
    assert before.items() <= after.items() and f"{STEM}.csv" in after
    shutil.copy(tmp_path / "demo-torch2.11-cpu.csv", tmp_path / "kwt1-torch2.11-cpu.csv")
    code, _, err = run("bench-report", write_run(path, [record(model="kwt1")]), "--out", tmp_path)
    assert code == 2 and "kwt1-torch2.11-cpu.csv is a table of another kind" in err


def test_a_readme_names_the_device_that_was_measured(tmp_path, run):
    text, gpu = readme(tmp_path / "README.md", ("memory",)), {"gpu": "Synthetic GPU"}
    path = write_run(tmp_path / "run.json", [record("memory", **gpu)])
    assert run("bench-report", path, "--out", tmp_path / "cpu", "--readme", text)[0] == 0
    assert "Measured on Synthetic CPU, threads: 2, torch 2.11.0+cpu, commit" in text.read_text()
    write_run(path, [record("memory", device="Synthetic GPU", **gpu)])
    assert run("bench-report", path, "--out", tmp_path / "gpu", "--readme", text)[0] == 0
    assert "Measured on Synthetic GPU, torch 2.11.0+cpu, commit" in text.read_text()


def test_json_names_what_was_written(tmp_path, run):
    path = write_run(tmp_path / "run.json", [record()])
    code, out, _ = run("bench-report", path, "--out", tmp_path / "out", "--json")
    facts = json.loads(out)
    assert code == 0 and set(facts["written"]) == {str(each) for each in (tmp_path / "out").iterdir()}
    assert "accuracy_macs-torch2.11-cpu" in facts["not_drawn"]


def test_what_was_measured_twice_is_said(tmp_path, run):
    path = write_run(tmp_path / "run.json", [record(), record(speedup=1.1, speedup_low=1.0)])
    code, _, err = run("bench-report", path, "--out", tmp_path / "out")
    assert code == 0 and "measured twice, the later one counts: suite=throughput, method=merged, r=32" in err
    assert ",1.1,1.0," in (tmp_path / "out" / f"{STEM}.csv").read_text()


def test_a_readme_without_blocks_is_left_as_it_is_and_said(tmp_path, run):
    text = readme(tmp_path / "README.md", ())
    before = text.read_bytes()
    path = write_run(tmp_path / "run.json", [record()])
    code, _, err = run("bench-report", path, "--out", tmp_path / "out", "--readme", text)
    assert code == 0 and "has no <!-- bench:NAME --> block" in err and text.read_bytes() == before


@pytest.mark.parametrize(
    ("runs", "text", "message"),
    [
        ([None], "", "none.json is not a file"),
        (["{"], "", "is not complete JSON"),
        (["good", '{"benchmarks": []}'], "", "holds no benchmarks"),
        (["good"], "<!-- bench:speed -->", "README.md: the block bench:speed has no end"),
        (["good"], "<!-- bench:nothing --><!-- /bench -->", "README.md: unknown block bench:nothing"),
        (["good"], None, "absent.md is not a file"),
        (["good"], b"\xff", "README.md: 'utf-8' codec"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(tmp_path, run, runs, text, message):
    out, target = tmp_path / "out", tmp_path / "README.md"
    assert run("bench-report", write_run(tmp_path / "old.json", [record(r="80")]), "--out", out)[0] == 0
    target.write_bytes(text if isinstance(text, bytes) else (text or "").encode())
    before = contents(out), target.read_bytes()
    paths = []
    for i, content in enumerate(runs):
        path = tmp_path / f"{i}.json"
        if content == "good":
            write_run(path, [record()])
        elif content is not None:
            path.write_text(content)
        paths.append(tmp_path / "none.json" if content is None else path)
    options = ["--readme", tmp_path / "absent.md" if text is None else target]
    code, printed, err = run("bench-report", *paths, "--out", out, *options)
    assert code == 2 and printed == "" and message in err and err.count("\n") == 1
    assert (contents(out), target.read_bytes()) == before


def test_nothing_to_report_makes_no_folder(tmp_path, run):
    code, _, err = run("bench-report", "--out", tmp_path / "out")
    assert code == 2 and "holds no benchmark table yet" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", [".json", ".csv"])
def test_damaged_results_are_named(tmp_path, run, ending):
    path = write_run(tmp_path / "run.json", [record()])
    out = tmp_path / "out"
    assert run("bench-report", path, "--out", out)[0] == 0
    damaged = out / f"{STEM}{ending}"
    damaged.write_text("{" if ending == ".json" else damaged.read_text().replace(",1214,", ",many,"))
    before = contents(out)
    code, _, err = run("bench-report", write_run(path, [record(r="64")]), "--out", out)
    assert code == 2 and damaged.name in err and err.count("\n") == 1 and contents(out) == before
