from __future__ import annotations

import pytest
import torch
from torch import nn

from tome_audio.audio.augment import spec_augment, time_roll
from tome_audio.training.loop import TrainingError, accuracy, fit
from tome_audio.training.state import save_state


def make_model(dropout: float = 0.2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(60, 32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, 3))


def make_data(n: int = 50, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    # Class c is louder in bins 3c to 3c + 2, for all frames.
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    louder = (torch.arange(10) // 3 == labels[:, None]).float()
    return torch.randn(n, 6, 10, generator=generator) + 1.5 * louder[:, None, :], labels


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return spec_augment(time_roll(x, generator, 2), generator, 3, 2)


SETTINGS = {"epochs": 4, "batch_size": 8, "lr": 1e-2, "augment": augment, "label_smoothing": 0.1}


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_it_learns_and_reports_every_epoch():
    model, seen = make_model(), []
    settings = {**SETTINGS, "epochs": 20}
    history = fit(model, make_data(), make_data(30, seed=1), on_epoch=seen.append, **settings)
    assert [r.epoch for r in history.records] == list(range(20)) and seen == history.records
    assert history.records[-1].loss < history.records[0].loss
    assert history.records[-1].accuracy == accuracy(model, *make_data(30, seed=1)) > 0.9
    assert history.records[-1].lr < history.records[1].lr
    assert history.seconds == sum(r.seconds for r in history.records) > 0


def test_same_seed_same_weights_other_seed_other_weights_whatever_the_global_state():
    models = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        model = make_model()
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        fit(model, make_data(), seed=seed, **SETTINGS)
        assert torch.equal(state, torch.get_rng_state())
        models.append(model)
    assert same_weights(models[0], models[1]) and not same_weights(models[0], models[2])


class Killed(Exception):
    pass


@pytest.mark.parametrize("last_epoch", [0, 2])
def test_a_killed_run_resumes_bit_for_bit(tmp_path, last_epoch):
    def kill(record):
        if record.epoch == last_epoch:
            raise Killed

    whole, first, second = make_model(), make_model(), make_model()
    expected = fit(whole, make_data(), make_data(30, seed=1), **SETTINGS)
    path = tmp_path / "run" / "state.pt"
    with pytest.raises(Killed):
        fit(first, make_data(), make_data(30, seed=1), state_path=path, on_epoch=kill, **SETTINGS)
    torch.manual_seed(123)
    history = fit(second, make_data(), make_data(30, seed=1), state_path=path, **SETTINGS)
    assert same_weights(whole, second) and not same_weights(whole, first)
    assert history == expected


def test_a_run_killed_inside_an_epoch_resumes_from_the_epoch_before(tmp_path):
    calls = []

    def kill_later(x, generator):
        calls.append(0)
        if len(calls) == 17:  # 7 batches an epoch
            raise Killed
        return augment(x, generator)

    whole, resumed = make_model(), make_model()
    fit(whole, make_data(), **SETTINGS)
    with pytest.raises(Killed):
        fit(make_model(), make_data(), state_path=tmp_path / "s", **{**SETTINGS, "augment": kill_later})
    fit(resumed, make_data(), state_path=tmp_path / "s", **SETTINGS)
    assert same_weights(whole, resumed)


def test_a_finished_run_is_loaded_and_not_trained_again(tmp_path):
    done, again, seen = make_model(), make_model(), []
    history = fit(done, make_data(), state_path=tmp_path / "s", **SETTINGS)
    assert fit(again, make_data(), state_path=tmp_path / "s", on_epoch=seen.append, **SETTINGS) == history
    assert same_weights(done, again) and seen == []


def test_a_state_is_replaced_in_one_go(tmp_path, monkeypatch):
    path = tmp_path / "s"
    fit(make_model(), make_data(), state_path=path, **SETTINGS)
    before = path.read_bytes()

    def die_half_way(state, target):
        target.write_bytes(b"half")
        raise Killed

    monkeypatch.setattr(torch, "save", die_half_way)
    with pytest.raises(Killed):
        save_state(path, make_model(), torch.optim.SGD(make_model().parameters(), 0.1), {}, [])
    assert path.read_bytes() == before


def test_a_state_of_other_settings_another_model_or_no_state_is_refused(tmp_path):
    path = tmp_path / "s"
    fit(make_model(), make_data(), state_path=path, **SETTINGS)
    with pytest.raises(ValueError, match=r"other settings \(lr was 0\.01, now 0\.1\): delete it to start anew"):
        fit(make_model(), make_data(), state_path=path, **{**SETTINGS, "lr": 0.1})
    with pytest.raises(ValueError, match=r"other settings \(clips was 50, now 49\)"):
        fit(make_model(), make_data(49), state_path=path, **SETTINGS)
    with pytest.raises(ValueError, match="holds another model: delete it"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(60, 3)), make_data(), state_path=path, **SETTINGS)
    path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="is not a saved training state: delete it"):
        fit(make_model(), make_data(), state_path=path, **SETTINGS)


def test_a_loss_that_is_not_finite_stops_with_the_place_and_a_hint():
    features, labels = make_data()
    features[7] = float("nan")
    with pytest.raises(TrainingError, match=r"the loss is nan at epoch 0, step \d: lower lr \(now 0\.01\)"):
        fit(make_model(), (features, labels), **SETTINGS)


def test_gradients_are_clipped():
    def largest_step(clip_norm: float) -> float:
        # With plain weights AdamW hides the scale of gradients, save below its eps.
        model = make_model(0.0)
        before = [p.detach().clone() for p in model.parameters()]
        settings = {"epochs": 1, "batch_size": 50, "lr": 1e-2, "warmup": 0.0, "weight_decay": 0.0}
        fit(model, make_data(), clip_norm=clip_norm, **settings)
        return max(float((p - q).detach().abs().max()) for p, q in zip(model.parameters(), before, strict=True))

    assert largest_step(1e-12) < 1e-5 < 5e-3 < largest_step(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"batch_size": -1}, "batch_size must be positive, got -1"),
        ({"lr": 0.0}, r"lr must be positive, got 0\.0"),
        ({"clip_norm": 0.0}, r"clip_norm must be positive, got 0\.0"),
        ({"warmup": 1.0}, r"warmup is a part of the run, in \[0, 1\), got 1\.0"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        fit(make_model(), make_data(), **{**SETTINGS, **change})


@pytest.mark.parametrize("name", ["train", "valid"])
@pytest.mark.parametrize(
    "spoil",
    [lambda x, y: (x[:0], y[:0]), lambda x, y: (x, y[1:]), lambda x, y: (x, y.float())],
    ids=["empty", "lengths", "dtype"],
)
def test_bad_data_is_named(name, spoil):
    data = {"train": make_data(), "valid": make_data()}
    data[name] = spoil(*data[name])
    with pytest.raises(ValueError, match=rf"{name} must be features \(N, \.\.\.\) and int64 class indices"):
        fit(make_model(), data["train"], data["valid"], **SETTINGS)


def test_accuracy_counts_in_eval_mode_whatever_the_batches_and_leaves_the_mode():
    model, (features, labels) = make_model(0.9), make_data(31)
    with torch.no_grad():
        expected = float((model.eval()(features).argmax(1) == labels).double().mean())
    for training in (True, False):
        for batch_size in (1, 7, 31, 100):
            assert accuracy(model.train(training), features, labels, batch_size) == expected
            assert model.training is training


@pytest.mark.parametrize("n_labels", [0, 5])
def test_accuracy_of_nothing_or_of_a_mismatch_is_refused(n_labels):
    features = torch.zeros(0 if n_labels == 0 else 4, 6, 10)
    with pytest.raises(ValueError, match=rf"one label per clip, got {n_labels} for {len(features)} clips"):
        accuracy(make_model(), features, torch.zeros(n_labels, dtype=torch.int64))
