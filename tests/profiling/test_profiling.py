import time

import pytest
import torch
from fakes import CASES
from torch import nn

from tome_audio.patch import apply_patch, describe, trace
from tome_audio.profiling import (
    Mark,
    count_macs,
    environment,
    interleaved,
    interleaved_for,
    latency,
    peak_bytes,
    ratio,
    stage_seconds,
    timed,
)


def test_candidates_take_turns():
    order = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, turns=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


@pytest.mark.parametrize(("seconds", "turns"), [(0.0, 3), (0.2, None), (60.0, 12)])
def test_as_many_turns_as_the_time_allows_but_not_too_few_or_many(seconds, turns):
    taken = interleaved_for({"a": lambda: time.sleep(0.01), "b": lambda: None}, seconds=seconds, fewest=3, most=12)
    assert len(taken["a"]) == len(taken["b"])
    assert len(taken["a"]) == turns if turns else 3 <= len(taken["a"]) <= 12


def test_a_sleeping_candidate_is_slower():
    seconds = interleaved({"fast": lambda: None, "slow": lambda: time.sleep(0.01)}, turns=3)
    assert min(seconds["slow"]) >= 0.01 and ratio(seconds["slow"], seconds["fast"]).median > 1


def test_ratio_is_formed_turn_by_turn():
    assert ratio([2.0, 40.0, 6.0], [1.0, 10.0, 6.0]) == (2.0, 1.5, 3.0)
    with pytest.raises(ValueError, match="got 2 and 1"):
        ratio([1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="at least one candidate"):
        interleaved({}, turns=1)


def test_macs_of_a_linear_layer_and_of_fused_attention():
    assert count_macs(nn.Linear(3, 5), torch.randn(7, 3)) == 7 * 3 * 5

    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert count_macs(Attention(), torch.randn(1, 2, 11, 4)) == 2 * 2 * 11 * 11 * 4


@pytest.mark.parametrize("name", CASES)
def test_the_closed_form_is_what_the_counter_sees(name):
    """What merging saves by the formula is what it saves by counting, for every family."""
    case = CASES[name]
    model = apply_patch(case.build().eval(), [2, 1, 2], metric="hidden")
    x = torch.randn(1, *case.input_shape)
    with trace(model) as traces:
        merged = count_macs(model, x)
    report = describe(model, case.n_tokens)
    assert list(report.tokens) == traces[0].tokens
    model.r = 0
    saved = count_macs(model, x) - merged
    # Matching costs one product of the two halves of the tokens per merge, over all channels of the hidden state.
    width = 32 if case.adapter == "KWT" else 48
    patches = [n - case.n_prefix for n, merged in zip(report.tokens, report.merged, strict=False) if merged]
    halves = [-(-n // 2) * (n // 2) for n in patches]
    assert saved == sum(report.macs_unmerged) - sum(report.macs) - width * sum(halves)


def test_environment_names_what_a_result_needs():
    found = environment()
    assert {"cpu", "cores", "torch", "commit", "python"} <= set(found)
    assert found["torch"].startswith("2.") and all(isinstance(value, str) and value for value in found.values())


def test_latency_is_in_milliseconds():
    assert latency([i / 1000 for i in range(101)]) == pytest.approx((50.0, 95.0))
    with pytest.raises(ValueError, match="at least one call"):
        latency([])
    assert timed(lambda: time.sleep(0.01)) >= 0.01


def test_peak_is_what_is_held_at_once():
    x = torch.ones(1000)

    def call():
        kept = x.neg()  # 4000 bytes, held to the end
        for _ in range(3):
            kept.exp().sin()  # two more at a time

    assert peak_bytes(call) == peak_bytes(call) == 12000
    assert peak_bytes(lambda: x.neg_()) == 0
    with pytest.raises(ValueError, match="not on meta"):
        peak_bytes(call, "meta")


def test_stages_end_at_their_marks():
    class Sleep(nn.Module):
        def forward(self, x):
            time.sleep(0.01)
            return x

    model = nn.Sequential(nn.Identity(), Sleep(), nn.Identity())
    marks = [Mark("first", model[1], "before"), Mark("middle", model[1], "after")]
    seconds = stage_seconds(lambda: model(torch.ones(1)), marks, "rest")
    assert list(seconds) == ["first", "middle", "rest"] and seconds["middle"] >= 0.01
    assert all(value >= 0 for value in seconds.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model)
    with pytest.raises(RuntimeError, match="should pass the stages elsewhere, rest in this order, but it passed rest"):
        stage_seconds(lambda: model(torch.ones(1)), [Mark("elsewhere", nn.Identity(), "after")], "rest")
