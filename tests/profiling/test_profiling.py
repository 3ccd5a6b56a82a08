import time

import pytest
import torch
from fakes import CASES
from torch import nn

from tome_audio.patch import apply_patch, describe, trace
from tome_audio.profiling import count_macs, environment, interleaved, ratio


def test_candidates_take_turns():
    order = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, turns=3, warmup=1)
    assert order == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


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
    # Matching costs one product of the two halves of the tokens per layer, over all channels of the hidden state.
    width = 32 if case.adapter == "KWT" else 48
    halves = [-(-(n - case.n_prefix) // 2) * ((n - case.n_prefix) // 2) for n in report.tokens[:-1]]
    assert saved == sum(report.macs_unmerged) - sum(report.macs) - width * sum(halves)


def test_environment_names_what_a_result_needs():
    found = environment()
    assert {"cpu", "cores", "torch", "commit", "python"} <= set(found)
    assert found["torch"].startswith("2.") and all(isinstance(value, str) and value for value in found.values())
