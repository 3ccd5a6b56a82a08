import copy

import pytest
import torch
from fakes import CASES

from tome_audio.evaluation import sweep
from tome_audio.merge import ComputeTarget, Schedule, SimilarityThreshold
from tome_audio.patch import UnsupportedModelError, apply_patch, describe


@pytest.fixture
def model():
    return CASES["kwt"].build().eval()


def batches(n=7, size=3):
    x = torch.randn(n, *CASES["kwt"].input_shape, generator=torch.Generator().manual_seed(0))
    y = torch.arange(n) % 5
    return [(x[i : i + size], y[i : i + size]) for i in range(0, n, size)]


def test_rows_equal_a_plain_evaluation(model):
    data = batches()
    x, y = torch.cat([b[0] for b in data]), torch.cat([b[1] for b in data])
    rows = sweep(model, data, [0, 3, [6, 2]], silence=0)
    with torch.no_grad():
        base = model(x).argmax(1)
        for row in rows:
            merged = apply_patch(copy.deepcopy(model), row.r)
            answer = torch.cat([merged(b[0]) for b in data]).argmax(1)
            assert row.accuracy == pytest.approx(100 * (answer == y).double().mean().item())
            assert row.accuracy_spoken == pytest.approx(100 * (answer == y)[y != 0].double().mean().item())
            assert row.agreement == pytest.approx(100 * (answer == base).double().mean().item())
    assert [row.tokens_left for row in rows] == [21, 15, 13]
    assert rows[0].macs_cut == 1 and rows[1].macs_cut > 1.2 and all(row.n_clips == 7 for row in rows)
    assert all(0 < row.speedup_low <= row.speedup <= row.speedup_high for row in rows)


def test_the_model_is_left_alone(model):
    before = {name: type(module) for name, module in model.named_modules()}
    sweep(model, batches(), [3])
    assert {name: type(module) for name, module in model.named_modules()} == before


def test_batches_may_be_a_stream_and_are_counted(model):
    seen = []
    (row,) = sweep(model, iter(batches(7, 3)), [1], on_batch=lambda: seen.append(1))
    assert len(seen) == 3 and row.accuracy_spoken is None


def test_what_merges_before_the_first_block_counts(model):
    n_tokens = CASES["kwt"].n_tokens
    rates = [ComputeTarget(1.5), Schedule((1,), (3, 2)), Schedule((1,), (3,), n_tokens=n_tokens)]
    merged = apply_patch(copy.deepcopy(model))
    for rate, row in zip(rates, sweep(model, batches(), rates), strict=True):
        merged.r = rate
        report = describe(merged, n_tokens)
        assert row.macs_cut == report.macs_cut > 1 and row.tokens_left == report.tokens[-1]


def test_errors(model):
    with pytest.raises(ValueError, match="fixed amounts"):
        sweep(model, batches(), [SimilarityThreshold(0.9)])
    with pytest.raises(ValueError, match="at least one batch"):
        sweep(model, [], [0])
    with pytest.raises(ValueError, match="r lists 4 layers"):
        sweep(model, batches(), [[1, 2, 3, 4]])
    with pytest.raises(ValueError, match="compares with the unpatched model"):
        sweep(apply_patch(copy.deepcopy(model)), batches(), [0])
    with pytest.raises(UnsupportedModelError):
        sweep(torch.nn.Linear(2, 2), batches(), [0])
