"""The benchmarks run, refuse bad options, and leave records with the fields that the report reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUITES = {path.stem.removeprefix("test_") for path in (ROOT / "benchmarks").glob("test_*.py")}
# A process of its own: it must not take itself for one of those that share out these tests.
ENV = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {"OMP_NUM_THREADS": "1"}

EVERYWHERE = {
    "suite": str, "model": str, "method": str, "r": str, "batch": int, "dtype": str, "device": str, "compiled": bool,
    "prefix_only": bool, "n_tokens": int, "tokens": list, "macs": int, "macs_cut": float, "torch": str, "commit": str,
    "python": str, "cpu": str,
}  # fmt: skip
SPEEDUP = {"speedup", "speedup_low", "speedup_high", "turns"}
OF_SUITE = {
    "throughput": SPEEDUP,
    "latency": SPEEDUP | {"latency_median_ms", "latency_p95_ms", "baseline_median_ms", "baseline_p95_ms"},
    "flops": {"macs_fvcore", "macs_counter"},
    "accuracy": {"accuracy", "agreement", "n_clips"},
    "training_step": SPEEDUP,
    "end_to_end": SPEEDUP | {"stages", "end_to_end_share"},
    "merge_overhead": {"overhead", "stages"},
    "memory": {"peak_bytes", "baseline_peak_bytes"},
    "scaling": SPEEDUP,
    "size_bias": SPEEDUP,
}


def run_benchmarks(*options):
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "-p", "no:cacheprovider", "-q"]
    return subprocess.run([*command, *options], cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    report = tmp_path_factory.mktemp("bench") / "bench.json"
    done = run_benchmarks("--models", "ast_tiny-test", "--turns", "1", "--batch", "2", f"--benchmark-json={report}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    run = json.loads(report.read_text())
    assert "node" not in run["machine_info"]
    return [benchmark["extra_info"] for benchmark in run["benchmarks"]]


def test_every_suite_leaves_records(records):
    assert {record["suite"] for record in records} == SUITES == set(OF_SUITE)


def test_records_have_their_fields(records):
    for record in records:
        for name, kind in EVERYWHERE.items():
            assert type(record[name]) is kind, (record["suite"], name, record[name])
        if record["suite"] != "scaling" or record["method"] != "unpatched":
            assert OF_SUITE[record["suite"]] <= set(record), record
        if record["dtype"] == "bfloat16" and "speedup" in record:
            assert record["suite"] in ("size_bias", "scaling") or "speedup_fp32" in record


def test_records_agree_with_themselves(records):
    for record in records:
        assert record["tokens"][0] == record["n_tokens"] and record["tokens"] == sorted(record["tokens"], reverse=True)
        if record["method"] == "unpatched":
            assert (record["macs_cut"], record["r"]) == (1.0, "0")
        if record["suite"] == "flops":
            assert record["macs_fvcore"] == record["macs_counter"] >= record["macs"]
        if record["suite"] == "memory" and record["method"] == "merged":
            assert 0 < record["peak_bytes"] <= record["training_peak_bytes"]
            assert record["training_peak_bytes"] <= record["baseline_training_peak_bytes"]
        if "stages" in record:
            assert all(seconds > 0 for seconds in record["stages"].values())


def test_no_two_records_are_of_one_measurement(records):
    key = ("suite", "method", "r", "batch", "dtype", "compiled", "prefix_only", "n_tokens")
    assert len({tuple(record[name] for name in key) for record in records}) == len(records)


def test_a_bad_option_is_one_error():
    done = run_benchmarks("--collect-only", "--models", "ast_huge")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: model 'ast_huge' is unknown; choose from ast_base-128")
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import plan

    return plan


def test_names_are_read_and_unknown_ones_refused(plan, cases):
    known = tuple(cases)
    assert plan.read_names(None, known, "model") is None
    assert plan.read_names("kwt1,ast_tiny-test", known, "model") == ("kwt1", "ast_tiny-test")
    assert "ast_tiny-test" not in plan.read_names("ast_*,*1024", known, "model")
    for text, choices, what in (("ast_huge", known, "model"), ("magic", plan.ALL_METHODS, "method")):
        with pytest.raises(ValueError, match=f"{what} '{text}' is unknown; choose from"):
            plan.read_names(text, choices, what)
    with pytest.raises(ValueError, match="--device 'tpu' is not to be had here; choose from cpu"):
        plan.read_device("tpu")


def test_settings_of_r_are_read(plan, cases):
    assert plan.read_rates(["8,[94,60]", "(8,-1)", "half"]) == (8, [94, 60], (8, -1.0), "half")
    assert plan.read_rates([]) is None
    with pytest.raises(ValueError, match="--r 'many' is not understood"):
        plan.read_rates(["many"])
    assert plan.resolve(cases["kwt1"], "half") == 8 and plan.resolve(cases["kwt1"], [3]) == [3]


def test_options_replace_what_a_suite_would_run(plan):
    suite = plan.Plan(quick=(plan.Runs("kwt1"),), full=(plan.Runs("*", ("merged", plan.COARSE), batches=(1, 8)),))

    def names(**options):
        return [str(run) for run in plan.choose(suite, plan.Settings(**options))]

    assert names() == ["kwt1-merged-r4-b1-float32", "kwt1-merged-r8-b1-float32"]
    assert names(rates=("half",), batches=(3,), dtypes=("bfloat16",)) == ["kwt1-merged-r8-b3-bfloat16"]
    assert names(models=("vit_base-224",), rates=(5,)) == [f"vit_base-224-merged-r5-b{b}-float32" for b in (1, 8)]
    # What the model does anyway is no run of its own: the last block is cut short where tokens merge.
    both = ["kwt1-merged-r0-b1-float32", "kwt1-merged-r8-b1-float32"]
    assert names(rates=(0, 8), prefix_only=True) == [f"{both[0]}-prefix_only", both[1]]
    assert names(rates=(0, 8), prefix_only=False) == [both[0], f"{both[1]}-every_token"]
    assert names(methods=(plan.COARSE,)) == []  # KWT has no patches to make larger
    assert not any("tiny" in name for name in names(full=True))


@pytest.fixture
def cases(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cases

    return cases.CASES


def test_rates_by_what_they_do(cases):
    assert cases["ast_base-1024"].half() == 94 and cases["ast_base-128"].half() == 12
    for case in cases.values():
        assert case.macs_cut(case.half()) >= 2 > case.macs_cut(case.half() - 1)
        schedule = case.front()
        assert schedule == sorted(schedule, reverse=True)
        assert case.macs_cut(schedule) >= 4 or case.hidden  # three blocks are too few for that
    assert 4 <= cases["ast_base-1024"].macs_cut(cases["ast_base-1024"].front()) < 4.1


@pytest.mark.parametrize("name", ["ast_tiny-test", "ast_tiny-test-s16", "ast_small-128", "ast_small-512-s16"])
def test_cases_know_their_tokens(cases, name):
    from tome_audio.patch import apply_patch, describe, trace

    case = cases[name]
    model = apply_patch(case.build().eval().to("meta"), 1)
    with trace(model) as traces:
        model(case.inputs(1, "meta", None))
    assert traces[0].tokens[0] == case.n_tokens
    assert len(describe(model, case.n_tokens).macs) == case.depth
    merged = apply_patch(model, case.rates[-1], prefix_only=False)
    assert describe(merged, case.n_tokens).macs_cut == pytest.approx(case.macs_cut(case.rates[-1]))
