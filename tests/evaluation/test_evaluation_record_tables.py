import pandas as pd
import pytest
from bench_runs import record

from tome_audio.evaluation.record_fields import cell
from tome_audio.evaluation.record_tables import (
    BLOCKS,
    NOTHING,
    against_unfused,
    build_block,
    fill_blocks,
    in_order,
    with_speed,
)
from tome_audio.evaluation.records import typed


def frame(*records):
    rows = [{name: cell(value) for name, value in each.items()} for each in records]
    rows = [{**row, "tokens_left": str(each["tokens"][-1])} for row, each in zip(rows, records, strict=True)]
    return typed(pd.DataFrame(rows).fillna("")).assign(machine="torch2.11-cpu", stem="x")


def build(name, *records):
    return build_block(name, frame(*records), lambda rows: f"{len(rows)} rows")


def body(text):
    """Cells of a Markdown table by row, headings first."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_blocks_are_replaced_and_the_rest_is_left_alone():
    text = "a\r\n<!-- bench:speed -->old\n<!-- /bench -->b<!-- bench:memory --><!-- /bench -->\n\nc"
    filled = fill_blocks(text, str.upper)
    assert filled == (
        "a\r\n<!-- bench:speed -->\nSPEED\n<!-- /bench -->b<!-- bench:memory -->\nMEMORY\n<!-- /bench -->\n\nc"
    )
    assert fill_blocks(filled, str.upper) == filled
    assert fill_blocks("no block", str.upper) == "no block"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- bench:fast --><!-- /bench -->", "unknown block bench:fast; known are speed, rivals"),
        ("<!-- bench:speed -->", "bench:speed has no end"),
        ("<!-- bench:speed -->\n<!-- bench:memory -->\n<!-- /bench -->", "bench:speed has no end"),
        ("a\nb <!-- /bench -->", "line 2 without a start"),
        ("<!-- bench:speed --><!-- /bench -->\n<!-- /bench -->", "line 2 without a start"),
    ],
)
def test_markers_that_do_not_pair(text, message):
    with pytest.raises(ValueError, match=message):
        fill_blocks(text, str.upper)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_without_records_says_so(name):
    assert build(name, record("flops")) == NOTHING


def test_speed_shows_ast_models_and_the_ratio_to_unfused_merging():
    ours = record(r="32", speedup=1.8, speedup_low=1.7, speedup_high=1.9, macs_cut=2.0, prefix_only=True)
    text = build(
        "speed", ours, record(method="merged-unfused", r="32", speedup=1.2), record(method="topk-class"),
        record(model="kwt1"), record(model="hf_ast-1024", r="64"), record("latency"), record(method="unpatched", r="0"),
    )  # fmt: skip
    heading, first, second = body(text)
    found = dict(zip(heading, first, strict=True))
    assert found["model"] == "ast_base-1024" and found["tokens left"] == "830" and found["MACs cut"] == "2.00x"
    assert found["speed-up (quartiles)"] == "1.80x (1.70 to 1.90)" and found["options"] == "prefix rows"
    assert found["against unfused, 2023"] == "1.50x"
    other = dict(zip(heading, second, strict=True))
    assert other["model"] == "hf_ast-1024" and other["against unfused, 2023"] == other["options"] == ""
    assert "2 rows" in text and "against float32" not in heading and "clips/s" not in heading


def test_speed_shows_what_bfloat16_gains_without_merging():
    gain = {"dtype": "bfloat16", "speedup_fp32": 2.5, "speedup_fp32_low": 2.4, "speedup_fp32_high": 2.6}
    heading, row = body(build("speed", record(method="unpatched", r="0", **gain), record(method="unpatched", r="0")))
    found = dict(zip(heading, row, strict=True))
    assert found["r"] == "unpatched" and found["against float32"] == "2.50x (2.40 to 2.60)"


def test_unfused_is_compared_only_at_the_same_setting():
    rows = frame(
        record(r="32", speedup=2.0), record(r="64", speedup=2.0), record(r="32", batch=1, speedup=2.0),
        record(r="32", method="merged-unfused", speedup=0.5), record("latency", r="32", speedup=3.0),
    )  # fmt: skip
    assert against_unfused(rows).fillna(-1).tolist() == [4.0, -1, -1, 1.0, -1]


def test_rivals_carry_the_speed_of_the_same_setting():
    rows = frame(
        record("accuracy", "kwt1", r="8", batch=32),
        record("accuracy", "kwt1", "topk-class", r="8", batch=32),
        record("accuracy", "kwt1", "random-drop", r="8", batch=32, speedup=1.1, speedup_low=1.0, speedup_high=1.2),
        record("accuracy", "kwt1", "merged-random", r="8", batch=1),
        record(model="kwt1", r="8", batch=1, speedup=1.5),
        record(model="kwt1", r="8", batch=8, speedup=1.6),
        record(model="kwt1", r="4", batch=8, speedup=1.7),
        record(model="kwt1", method="topk-class", r="8", batch=1, speedup=1.3),
        record(model="kwt1", method="merged-random", r="8", batch=1, speedup=1.4),
    )
    found = with_speed(rows).set_index("method")
    # Nothing was timed at batch 32: the largest batch counts, the same for every method.
    assert found["speedup"]["merged"] == 1.6 and found["speed_batch"]["merged"] == 8
    assert pd.isna(found["speedup"]["topk-class"])
    assert found["speedup"]["random-drop"] == 1.1 and found["speed_batch"]["random-drop"] == 32
    assert found["speedup"]["merged-random"] == 1.4 and found["speed_batch"]["merged-random"] == 1


@pytest.mark.parametrize(
    ("name", "suite", "column", "entry"),
    [
        ("overhead", "merge_overhead", "matching and merging, % of block time", "3.0"),
        ("latency", "latency", "speed-up (quartiles)", "1.18x (1.12 to 1.23)"),
        ("training", "training_step", "MACs cut", "1.19x"),
        ("end_to_end", "end_to_end", "of model-only throughput %", "90"),
        ("memory", "memory", "unpatched", "381"),
        ("size_bias", "size_bias", "r", "32"),
        ("scaling", "scaling", "tokens", "1214"),
    ],
)
def test_every_block_shows_its_suite(name, suite, column, entry):
    heading, row = body(build(name, record(suite), record("flops")))
    assert dict(zip(heading, row, strict=True))[column] == entry


def test_rows_are_in_the_order_a_reader_expects():
    rows = in_order(
        frame(
            record(model="ast_base-1024", r="8"), record(model="ast_base-128", r="12"),
            record(model="ast_base-128", r="[9,2]"), record(model="ast_base-128", r="4"),
            record(model="ast_base-128", r="4", dtype="bfloat16"), record(model="ast_base-128", r="4", batch=1),
            record(model="ast_base-128", method="unpatched", r="0"),
        )
    )  # fmt: skip
    assert [(row.model, row.dtype, row.batch, row.r) for row in rows.itertuples()] == [
        ("ast_base-128", "float32", 1, "4"), ("ast_base-128", "float32", 8, "0"), ("ast_base-128", "float32", 8, "4"),
        ("ast_base-128", "float32", 8, "12"), ("ast_base-128", "float32", 8, "[9,2]"),
        ("ast_base-128", "bfloat16", 8, "4"), ("ast_base-1024", "float32", 8, "8"),
    ]  # fmt: skip


def test_machines_have_tables_of_their_own():
    rows = frame(record("memory"), record("memory", r="64"))
    rows.loc[1, "machine"] = "torch2.11-gpu"
    text = build_block("memory", rows, lambda part: part["machine"].iloc[0])
    assert text.count("| model |") == 2 and text.index("torch2.11-cpu") < text.index("torch2.11-gpu")
