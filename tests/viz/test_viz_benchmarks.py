import pandas as pd
import pytest
from bench_runs import record
from matplotlib.container import ErrorbarContainer

from tome_audio.evaluation.record_fields import cell
from tome_audio.evaluation.records import typed
from tome_audio.viz.benchmarks import plot_accuracy, plot_speedup
from tome_audio.viz.scaling import pays_from, plot_scaling
from tome_audio.viz.series import short_rate, style, with_series
from tome_audio.viz.stages import plot_stages


def frame(*records):
    rows = [{name: cell(value) for name, value in each.items()} for each in records]
    return typed(pd.DataFrame(rows).fillna(""))


def curves(axes):
    """Points of each labelled series."""
    handles, labels = axes.get_legend_handles_labels()
    lines = [handle[0] if isinstance(handle, ErrorbarContainer) else handle for handle in handles]
    return {label: line.get_xydata().tolist() for label, line in zip(labels, lines, strict=True)}


def bar_ends(axes):
    """Quartile segments of every error bar."""
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return [segment.tolist() for bar in bars for lines in bar[2] for segment in lines.get_segments()]


def scored(method="merged", r="8", **fields):
    return record("accuracy", "kwt1", method, r, **fields)


def test_accuracy_has_a_line_per_method_in_order_of_cost():
    rows = frame(
        scored(r="12", macs_cut=3.0, accuracy=90.0, accuracy_spoken=None),
        scored(r="4", macs_cut=1.5, accuracy=96.0, accuracy_spoken=None),
        scored(r="[45,20]", macs_cut=4.0, accuracy=95.0, accuracy_spoken=None),
        scored("topk-class", "4", macs_cut=1.5, accuracy=91.0, accuracy_spoken=None),
        scored("unpatched", "0", macs_cut=None, accuracy=97.0, accuracy_spoken=None),
    )
    axes = plot_accuracy(rows, "macs_cut", "x").axes[0]
    found = curves(axes)
    assert found["merged (ours)"] == [[1.5, 96], [3, 90]] and found["merged (ours), r per block"] == [[4, 95]]
    assert found["top-k by class attention"] == [[1.5, 91]] and found["unpatched"] == [[1, 97]]
    assert {"4", "12", "[45,20]"} <= {text.get_text() for text in axes.texts}
    assert axes.get_ylabel() == "accuracy (%)"


def test_accuracy_against_speed_has_the_quartiles_as_bars():
    rows = frame(scored(speedup=2.0, speedup_low=1.8, speedup_high=2.3, accuracy_spoken=95.0), scored("topk-class"))
    axes = plot_accuracy(rows, "speedup", "x").axes[0]
    assert curves(axes) == {"merged (ours)": [[2.0, 95.0]]}  # what was not timed is not drawn
    assert bar_ends(axes) == [[[pytest.approx(1.8), 95.0], [pytest.approx(2.3), 95.0]]]
    assert "silence left out" in axes.get_ylabel()


def test_speed_has_a_panel_per_model_and_the_diagonal():
    rows = frame(
        record(batch=1, speedup=1.1), record(batch=8, macs_cut=2.0, speedup=1.5, speedup_low=1.4, speedup_high=1.7),
        record(model="kwt1", batch=1, macs_cut=3.0, speedup=0.9, speedup_low=0.8, speedup_high=1.0),
        record(dtype="bfloat16", batch=32), record(method="unpatched", r="0"),
    )  # fmt: skip
    figure = plot_speedup(rows, "float32", "x")
    assert [axes.get_title() for axes in figure.axes] == ["ast_base-1024, batch 8", "kwt1, batch 1"]
    for axes, point, ends in zip(figure.axes, ([2.0, 1.5], [3.0, 0.9]), ((1.4, 1.7), (0.8, 1.0)), strict=True):
        diagonal = axes.lines[0].get_xydata()
        assert (diagonal[:, 0] == diagonal[:, 1]).all() and diagonal[-1, 0] >= point[0]
        assert axes.containers[0][0].get_xydata().tolist() == [point]
        assert [y for _, y in bar_ends(axes)[0]] == pytest.approx(ends)
        low, high = axes.get_ylim()
        assert low < min(ends) and high > max(ends)
    assert plot_speedup(rows, "bfloat16", "x").axes[0].get_title() == "ast_base-1024, batch 32"


def test_speed_is_shown_at_the_batch_of_most_settings():
    most = [record(r=r, batch=8) for r in ("32", "64")]
    rows = frame(record(batch=32), record(r="94", batch=1), *most)
    assert plot_speedup(rows, "float32", "x").axes[0].get_title() == "ast_base-1024, batch 8"
    rows = frame(record(batch=32), record(r="64", batch=32), *most, record(r="4", batch=1))
    assert plot_speedup(rows, "float32", "x").axes[0].get_title() == "ast_base-1024, batch 32"


def test_stages_add_up_to_all_of_the_time():
    shares = {"features": 0.25, "patch_embedding": 0.05, "blocks": 0.6, "head": 0.1}
    rows = frame(
        {**record("end_to_end", speedup=1.5), "stage_shares": shares},
        {**record("end_to_end", method="unpatched", r="0"), "stage_shares": {"features": 0.1, "blocks": 0.9}},
    )
    figure = plot_stages(rows, "x")
    axes = figure.axes[0]
    bars = [(round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_width()) for bar in axes.patches]
    for place, wanted in ((0, [25, 5, 60, 10]), (1, [10, 0, 90, 0])):
        own = sorted((left, width) for at, left, width in bars if at == place)
        assert sorted(width for _, width in own) == pytest.approx(sorted(wanted))
        assert max(left + width for left, width in own) == pytest.approx(100)
    assert [text.get_text() for text in figure.legends[0].texts] == ["features", "patch embedding", "blocks", "head"]
    assert [text.get_text() for text in axes.texts if "faster" in text.get_text()] == ["1.50x faster"]


def scaling(n_tokens, speedup, time, **fields):
    return {
        **record("scaling", f"ast_base-{n_tokens}", n_tokens=n_tokens, speedup=speedup, **fields),
        "relative_time": time,
    }


def test_scaling_draws_both_models_and_marks_where_merging_pays():
    rows = frame(
        *(scaling(n, 1.0, t, method="unpatched", r="0") for n, t in ((146, 1.0), (600, 5.0), (1214, 14.0))),
        *(scaling(n, s, t) for n, s, t in ((1214, 1.6, 9.0), (146, 0.8, 1.25), (600, 1.1, 4.6))),
    )
    upper, lower = plot_scaling(rows, "x").axes
    assert curves(upper) == {
        "unpatched": [[146, 1], [600, 5], [1214, 14]], "merged (ours)": [[146, 1.25], [600, 4.6], [1214, 9]],
    }  # fmt: skip
    assert curves(lower) == {"merged (ours)": [[146, 0.8], [600, 1.1], [1214, 1.6]]}
    assert [text.get_text() for text in lower.texts] == ["pays from 600 tokens"]
    assert "unpatched at the fewest tokens = 1" in upper.get_ylabel() and len(bar_ends(lower)) == 3


def test_scaling_of_a_gpu_is_in_milliseconds_and_without_times_only_the_speed_is_drawn():
    upper, _ = plot_scaling(frame({**scaling(146, 2.0, 1.0), "clips_per_second": 50.0}), "x").axes
    assert curves(upper) == {"merged (ours)": [[146, 20.0]]} and "(ms)" in upper.get_ylabel()
    assert len(plot_scaling(frame(scaling(146, 2.0, None)), "x").axes) == 1


@pytest.mark.parametrize(
    ("speedups", "start"),
    [((0.9, 1.1, 1.2), 200), ((1.1, 0.9, 1.2), 300), ((1.1, 1.2, 1.3), 100), ((1.1, 1.2, 1.0), None)],
)
def test_pays_from(speedups, start):
    rows = pd.DataFrame({"n_tokens": [100, 200, 300], "speedup": speedups})
    assert pays_from(rows) == pays_from(rows.iloc[::-1]) == start


def test_nothing_is_drawn_without_data():
    rows = frame(record("flops"), record("accuracy", "kwt1", "unpatched", "0"))
    assert plot_accuracy(rows, "macs_cut", "x") is plot_accuracy(rows, "speedup", "x") is None
    assert plot_speedup(rows, "float32", "x") is plot_stages(rows, "x") is plot_scaling(rows, "x") is None


def test_a_method_looks_the_same_everywhere_and_no_two_look_alike():
    methods = [
        "unpatched",
        "merged",
        "merged-unfused",
        "merged-random",
        "topk-class",
        "random-drop",
        "stride-16",
        "new",
    ]
    looks = [style(row) for row in with_series(frame(*(record(method=m) for m in methods))).to_dict("records")]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == len(methods)
    again = style(with_series(frame(record(method="merged", r="64", model="kwt1"))).iloc[0])
    assert again == looks[1]


def test_options_are_named_where_a_method_has_both():
    rows = with_series(frame(record(prefix_only=True), record(), record(method="topk-class", compiled=True)))
    assert rows["label"].tolist() == ["merged (ours), prefix rows only", "merged (ours)", "top-k by class attention"]
    assert [style(row)["fillstyle"] for row in rows.to_dict("records")] == ["full", "left", "full"]


def test_long_rates_are_shortened():
    assert short_rate("8") == "8" and short_rate("[45,20,12,6,0,0]") == "[45,20,12,6]"
    assert short_rate("[9,8,7,6,5,4]") == "[9,8,7,6,…]" and short_rate("[0,0]") == "[0]"
