import json

import pandas as pd
import pytest
from bench_runs import benchmark, full_run, record, write_run

from tome_audio.evaluation.record_fields import ENVIRONMENT, KEY
from tome_audio.evaluation.records import (
    machine_name,
    merge_results,
    rate_order,
    read_run,
    read_table,
    repeated_keys,
    table_text,
    typed,
)
from tome_audio.profiling import environment

NAME = "ast_base-1024-torch2.11-cpu"


def read(tmp_path, *records, **options):
    return read_run(write_run(tmp_path / "run.json", records, **options))


def only(tmp_path, *records, **options):
    (result,) = read(tmp_path, *records, **options).values()
    return result


def test_records_are_sorted_into_tables_by_model_torch_and_device(tmp_path):
    records = [record(), record(model="kwt1"), record(torch="2.12.1"), record(device="NVIDIA H200", torch="2.11.1")]
    results = read(tmp_path, *records)
    assert set(results) == {
        NAME, "kwt1-torch2.11-cpu", "ast_base-1024-torch2.12-cpu", "ast_base-1024-torch2.11-nvidia-h200",
    }  # fmt: skip
    assert all(len(result.table) == 1 for result in results.values())
    assert machine_name("2.11.0+cu130", "NVIDIA A100-SXM4-80GB") == "torch2.11-nvidia-a100-sxm4-80gb"


def test_every_number_survives_the_csv(tmp_path):
    records = full_run()
    for name, result in read(tmp_path, *records).items():
        again = read_table(table_text(result.table))
        pd.testing.assert_frame_equal(again, result.table)
        rows = typed(again)
        own = [r for r in records if name.startswith(f"{r['model']}-torch")]
        assert len(rows) == len(own) > 0
        for each in own:
            keys = [k for k in KEY if k in each]  # clips are counted for accuracy only
            match = rows[(rows[keys] == pd.Series({k: each[k] for k in keys})).all(axis=1)]
            assert len(match) == 1
            for field in ("macs", "macs_cut", "speedup", "accuracy", "overhead", "peak_bytes"):
                if field in each:
                    assert match[field].item() == pytest.approx(each[field], rel=1e-4)
            assert json.loads(match["tokens"].item()) == each["tokens"]
            assert match["tokens_left"].item() == each["tokens"][-1]


def test_a_cpu_shows_ratios_and_shares_but_no_absolute_time(tmp_path):
    stages = {"features": 1.0, "patch_embedding": 0.5, "blocks": 2.0, "head": 0.5}
    table = only(tmp_path, record("latency", r="8"), record("end_to_end", stages=stages), record(own_seconds=3.5)).table
    assert not {"stages", "clips_per_second", "own_seconds"} & set(table.columns)
    assert not [column for column in table.columns if column.endswith("_ms")]
    rows = typed(table).set_index("suite")
    assert json.loads(rows["stage_shares"]["end_to_end"]) == {k: v / 4 for k, v in stages.items()}
    speedup = rows["speedup"]["latency"]
    assert rows["latency_ratio"]["latency"] == pytest.approx(speedup, rel=1e-4)
    assert rows["latency_p95_ratio"]["latency"] == pytest.approx(0.96 * speedup, rel=1e-4)


def test_a_gpu_shows_absolute_times_too(tmp_path):
    run = [
        benchmark(record(batch=16, device="NVIDIA H200"), seconds=0.5),
        benchmark(record("memory", device="NVIDIA H200")),
    ]
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"benchmarks": run}))
    (result,) = read_run(path).values()
    rows = typed(result.table).set_index("suite")
    assert rows["clips_per_second"]["throughput"] == 32 and pd.isna(rows["clips_per_second"]["memory"])
    stages = {"attention": 0.25, "matching": 0.0, "merging": 0.25, "feed_forward": 0.5}
    table = only(tmp_path, record("merge_overhead", device="NVIDIA H200", stages=stages)).table
    assert json.loads(table["stages"].item()) == json.loads(table["stage_shares"].item()) == stages


def test_scaling_is_relative_to_the_unpatched_model_at_the_fewest_tokens_of_the_run(tmp_path):
    path = tmp_path / "run.json"
    unpatched = {"suite": "scaling", "method": "unpatched", "r": "0"}
    run = [
        benchmark(record(model="ast_base-512", n_tokens=600, batch=2, **unpatched), seconds=12.0),
        benchmark(record(model="ast_base-128", n_tokens=146, batch=8, **unpatched), seconds=8.0),
        # Its own seconds do not count: the machine was busy by then.
        benchmark(
            record("scaling", "ast_base-512", n_tokens=600, batch=2, speedup=2.0, speedup_high=2.0), seconds=90.0
        ),
        benchmark(record("scaling", "ast_base-512", n_tokens=900, batch=2), seconds=18.0),
        benchmark(record("scaling", "kwt1", "merged", "8", n_tokens=99), seconds=1.0),
    ]
    path.write_text(json.dumps({"benchmarks": run}))
    found = pd.concat([typed(result.table) for result in read_run(path).values()])
    times = {(row.n_tokens, row.method): row.relative_time for row in found.itertuples()}
    assert times[146, "unpatched"] == 1 and times[600, "unpatched"] == 6 and times[600, "merged"] == 3
    assert times[900, "merged"] == 9 and pd.isna(times[99, "merged"])


def test_the_environment_is_beside_the_table_and_the_host_nowhere(tmp_path):
    assert set(environment()) <= {*ENVIRONMENT, "commit"}
    result = only(tmp_path, record(command="pytest benchmarks"))
    ((commit, (run,)),) = result.environments.items()
    assert commit == "0123456789ab" and run["date"] == "2030-01-02T03:04:05+00:00"
    assert run["cpu"] == "Synthetic CPU" and run["command"] == "pytest benchmarks"
    assert not set(result.table.columns) & (set(ENVIRONMENT) - {"torch"})
    assert "secret-host-name" not in table_text(result.table) + json.dumps(result.environments)


def test_merging_replaces_equal_keys_and_keeps_the_rest(tmp_path):
    old = only(tmp_path, record(r="32"), record(r="64"))
    new = only(tmp_path, record(r="64", speedup=9.0, speedup_high=9.5), record(r="64", batch=1), record(r="80"))
    table = typed(merge_results(old, new).table)
    assert sorted(zip(table["r"], table["batch"], strict=True)) == [("32", 8), ("64", 1), ("64", 8), ("80", 8)]
    assert table.loc[(table["r"] == "64") & (table["batch"] == 8), "speedup"].tolist() == [9.0]


@pytest.mark.parametrize("field", KEY)
def test_every_part_of_the_key_counts(tmp_path, field):
    other = {
        "suite": "training_step", "method": "topk-class", "r": "33", "batch": 1, "dtype": "bfloat16", "compiled": True,
        "prefix_only": True, "n_tokens": 146, "n_clips": 542,
    }[field]  # fmt: skip
    result = only(tmp_path, record(), record(**{field: other}))
    assert len(merge_results(None, result).table) == 2 and not repeated_keys(result.table)


def test_two_measurements_of_one_thing_in_a_run_are_named(tmp_path):
    result = only(tmp_path, record(), record(), record(r="64"))
    (key,) = repeated_keys(result.table)
    assert "suite=throughput" in key and "r=32" in key
    assert len(merge_results(None, result).table) == 2


def test_merging_twice_changes_nothing_and_order_of_runs_does_not_matter_where_keys_differ(tmp_path):
    first = only(tmp_path, record(r="32", commit="aaa"), record("memory", commit="aaa"), date="2030-01-01T00:00:00")
    second = only(tmp_path, record(r="64", commit="bbb"), record("accuracy", commit="bbb"), date="2030-01-02T00:00:00")
    both = merge_results(merge_results(None, first), second)
    for other in (
        merge_results(both, second),
        merge_results(both, first),
        merge_results(merge_results(None, second), first),
    ):
        assert table_text(other.table) == table_text(both.table) and other.environments == both.environments
    assert list(both.environments) == ["aaa", "bbb"]


def test_a_run_that_no_row_comes_from_any_more_is_forgotten(tmp_path):
    first = only(tmp_path, record(commit="aaa"), date="2030-01-01T00:00:00")
    second = only(tmp_path, record(commit="bbb"), date="2030-01-02T00:00:00")
    assert list(merge_results(merge_results(None, first), second).environments) == ["bbb"]


def test_tables_of_another_kind_are_told_apart(tmp_path):
    assert read_table("r,tokens_left,macs_cut\n0,99,1.0\n") is None
    assert read_table("") is None and read_table('a,b\n1,2,3\n"') is None
    assert read_table(table_text(only(tmp_path, record()).table)) is not None


def test_rates_sort_as_numbers():
    rates = ["8", "32", "[45,20,12,6]", "(8,-1)", "4"]
    assert sorted(rates, key=rate_order) == ["4", "8", "32", "(8,-1)", "[45,20,12,6]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not complete JSON"),
        ('{"benchmarks": [{"name"', "is not complete JSON"),
        ("\x00\xff", "is not complete JSON"),
        ("[]", "has no list 'benchmarks'"),
        ('{"rows": []}', "has no list 'benchmarks'"),
        ('{"benchmarks": []}', "holds no benchmarks"),
        ('{"benchmarks": [3]}', "has no extra_info"),
        ('{"benchmarks": [{"name": "test_x"}]}', "test_x: has no extra_info"),
        ('{"benchmarks": [{"name": "test_x", "extra_info": {}}]}', "test_x: extra_info has no 'suite'"),
    ],
)
def test_files_that_are_no_runs(tmp_path, text, message):
    path = tmp_path / "run.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        read_run(path)
    with pytest.raises(ValueError, match="is not a file"):
        read_run(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "speed"}, "unknown suite 'speed'; known are throughput"),
        ({"model": None}, "needs model"),
        ({"speedup": None, "macs_cut": None}, "needs macs_cut, speedup"),
        ({"speedup": float("nan")}, "speedup is nan"),
        ({"speedup": float("inf")}, "speedup is inf"),
        ({"speedup_low": 0}, "speedup_low is 0"),
        ({"speedup": "fast"}, "speedup is 'fast'"),
        ({"batch": True}, "batch is True"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"n_tokens": -4}, "n_tokens is -4"),
        ({"compiled": "no"}, "compiled is 'no', which is not true or false"),
        ({"tokens": []}, "tokens is"),
        ({"stages": {"features": -1.0}}, "stages is"),
        ({"model": "../elsewhere"}, "cannot name a file"),
        ({"r": ""}, "r is ''"),
        ({"note": float("nan")}, "note is nan"),
    ],
)
def test_records_that_cannot_be_used(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, record(), {**record(), **change})


def test_a_timed_record_needs_its_time(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"benchmarks": [{**benchmark(record()), "stats": None}]}))
    with pytest.raises(ValueError, match=r"stats\.median is None"):
        read_run(path)


@pytest.mark.parametrize("suite", ["throughput", "latency", "accuracy", "merge_overhead", "memory", "end_to_end"])
def test_the_unpatched_model_needs_no_figures_of_merging(tmp_path, suite):
    whole = record(suite, method="unpatched", r="0")
    bare = {name: value for name, value in whole.items() if not name.startswith(("speedup", "overhead", "stages"))}
    assert len(only(tmp_path, bare).table) == 1
