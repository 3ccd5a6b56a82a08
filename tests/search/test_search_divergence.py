import copy

import pytest
import torch
from fakes import CASES, logits
from torch.distributions import Bernoulli, Categorical, kl_divergence

from tome_audio.merge import Schedule
from tome_audio.patch import apply_patch
from tome_audio.search.divergence import Judge, divergence


def test_against_the_distributions_of_torch():
    base, merged = (3 * torch.randn(7, 5, dtype=torch.float64) for _ in range(2))
    single = kl_divergence(Categorical(logits=base), Categorical(logits=merged))
    assert torch.allclose(divergence(base, merged), single)
    multi = kl_divergence(Bernoulli(logits=base), Bernoulli(logits=merged)).sum(-1)
    assert torch.allclose(divergence(base, merged, multi_label=True), multi)


@pytest.mark.parametrize("multi_label", [False, True])
def test_equal_answers_do_not_diverge_and_sure_ones_stay_finite(multi_label):
    sure = torch.tensor([[80.0, -80.0, 0.0]])
    assert divergence(sure, sure, multi_label=multi_label).abs().max() < 1e-12
    assert divergence(sure, -sure, multi_label=multi_label).isfinite().all()


@pytest.mark.parametrize("name", ["kwt", "ast", "huggingface_sdpa"])
def test_a_score_is_the_mean_over_the_clips_of_its_part(name):
    model = CASES[name].build().eval()
    parts = [torch.randn(n, *CASES[name].input_shape) for n in (5, 3)]
    judge = Judge(apply_patch(copy.deepcopy(model)), parts, batch_size=2, multi_label=False)
    schedule = Schedule((2, 1), (2,))
    merged = apply_patch(copy.deepcopy(model), schedule)
    for index, part in enumerate(parts):
        with torch.no_grad():
            wanted = divergence(logits(model(part)), logits(merged(part)))
        score = judge.score(schedule, index)
        assert score.divergence == pytest.approx(wanted.mean().item(), rel=1e-3)
        assert score.root == pytest.approx(wanted.sqrt().mean().item(), rel=1e-3)
    assert judge.score(Schedule(), 0) == (0, 0)


def test_a_broken_model_is_an_error():
    model = CASES["kwt"].build().eval()
    model.head.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        Judge(apply_patch(model), [torch.randn(2, *CASES["kwt"].input_shape)], 2, False)
