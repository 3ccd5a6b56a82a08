from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys

import pytest
import torch
from small_run import Labels, NoisySounds, Recorder, make_model, make_trainer, same_tensors, taught_run
from torch import nn

from tome_audio.training.errors import TrainingError, TrainingInterrupted
from tome_audio.training.run_folder import read_checkpoint, read_weights
from tome_audio.training.trainer import Trainer, TrainingData


class Killed(Exception):
    pass


def kill():
    raise Killed


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder, seen = tmp_path_factory.mktemp("whole"), Recorder()
    model = make_model()
    result = make_trainer(folder, model, callbacks=[seen]).run()
    return model.state_dict(), result, seen, folder


def test_it_learns_and_tells_of_every_step_and_epoch(uninterrupted):
    _, result, seen, _ = uninterrupted
    assert [r.step for r in seen.steps] == list(range(20)) and seen.epochs == result.records
    assert [r.epoch for r in result.records] == [0, 1, 2, 3] and [r.step for r in result.records] == [5, 10, 15, 20]
    assert result.records[-1].loss < result.records[0].loss and result.records[-1].score > 0.8
    assert result.records[-1].metrics["clips"] == 31
    losses = [r.loss for r in seen.steps[:5]]
    assert result.records[0].loss == pytest.approx((12 * sum(losses[:4]) + 4 * losses[4]) / 52)
    assert result.best == max(result.records, key=lambda r: r.score) and not result.stopped_early


@pytest.mark.parametrize("at", [0, 6, 9, None], ids=lambda at: "at any step" if at is None else f"at {at}")
def test_a_killed_run_goes_on_bit_for_bit(uninterrupted, tmp_path, at):
    weights, result, seen, whole = uninterrupted
    at = random.SystemRandom().randrange(20) if at is None else at  # drawn here: processes collect the same tests
    with pytest.raises(Killed):
        make_trainer(tmp_path, callbacks=[Recorder(at, kill)]).run()
    torch.manual_seed(123)
    model, rest = make_model(), Recorder()
    resumed = make_trainer(tmp_path, model, callbacks=[rest]).run(resume=True)
    assert at - 2 < rest.steps[0].step <= at + 1  # at most the step interval is lost
    assert rest.steps == seen.steps[rest.steps[0].step :]
    assert same_tensors(weights, model.state_dict())
    assert resumed.records == result.records and resumed.averaged_metrics == result.averaged_metrics
    for name in ("best", "last", "averaged"):
        assert same_tensors(read_weights(whole / f"{name}.safetensors"), read_weights(tmp_path / f"{name}.safetensors"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [6, 9])  # 9 ends an epoch: what is left of it is the evaluation
def test_a_signal_saves_and_stops_after_the_step(uninterrupted, tmp_path, number, at):
    before = signal.getsignal(number)
    # Noted while callbacks of the step before run: the step that is next still ends.
    first = Recorder(at - 1, lambda: os.kill(os.getpid(), number))
    with pytest.raises(
        TrainingInterrupted, match=rf"{signal.Signals(number).name} stopped the run.* after step {at + 1}"
    ):
        make_trainer(tmp_path, callbacks=[first], save_every=0).run()
    assert signal.getsignal(number) is before and len(first.steps) == at + 1
    model, rest = make_model(), Recorder()
    make_trainer(tmp_path, model, callbacks=[rest], save_every=0).run(resume=True)
    assert rest.steps[0].step == at + 1 and same_tensors(uninterrupted[0], model.state_dict())
    assert issubclass(TrainingInterrupted, KeyboardInterrupt)  # which commands answer with 130


def test_a_finished_run_is_not_trained_again(uninterrupted):
    weights, result, _, folder = uninterrupted
    model, seen = make_model(), Recorder()
    assert make_trainer(folder, model, callbacks=[seen]).run(resume=True).records == result.records
    assert seen.steps == [] and same_tensors(weights, model.state_dict())


def test_averages_are_those_of_the_weights_after_steps_and_epochs(tmp_path):
    model = make_model()
    after_steps, after_epochs = [], []
    own = Recorder()
    own.on_step = lambda record: after_steps.append(model[1].weight.detach().double().clone())
    own.on_epoch = lambda record: after_epochs.append(model[1].weight.detach().double().clone())
    start = model[1].weight.detach().double().clone()
    result = make_trainer(tmp_path, model, callbacks=[own]).run()
    for t, weight in enumerate(after_steps):
        d = min(0.9, (1 + t) / (10 + t))
        start = d * start + (1 - d) * weight
    assert torch.allclose(read_weights(result.last_weights)["1.weight"].double(), start, atol=1e-6)
    mean = torch.stack(after_epochs[1:4]).mean(0)
    assert torch.allclose(read_weights(result.averaged_weights)["1.weight"].double(), mean, atol=1e-6)
    assert torch.equal(after_steps[-1], model[1].weight.double()) and set(result.averaged_metrics) == {
        "accuracy",
        "clips",
    }


def test_the_best_epoch_is_the_one_that_scored_best(tmp_path):
    class Told(Labels):
        scores = iter([0.2, 0.9, 0.9, 0.1])

        def metrics(self, outputs):
            return {"told": next(self.scores)}

        def score(self, metrics):
            return metrics["told"]

    model, kept = make_model(), []
    own = Recorder()
    own.on_epoch = lambda record: kept.append({n: v.clone() for n, v in model.state_dict().items()})
    result = make_trainer(tmp_path, model, Told(), callbacks=[own], ema_decay=None, average=None).run()
    assert result.best.epoch == 1 and result.averaged_weights is None
    assert same_tensors(read_weights(result.best_weights), kept[1])
    assert same_tensors(read_weights(result.last_weights), kept[3])


def test_early_stopping_waits_so_many_epochs_and_stays_stopped(tmp_path):
    class Told(Labels):
        def __init__(self):
            super().__init__()
            self.scores = iter([0.1, 0.5, 0.4, 0.5, 0.4, 0.9])

        def score(self, metrics):
            return next(self.scores)

    settings = {"epochs": 6, "patience": 2, "average": None}
    result = make_trainer(tmp_path, task=Told(), **settings).run()
    assert result.stopped_early and [r.score for r in result.records] == [0.1, 0.5, 0.4, 0.5]
    again = make_trainer(tmp_path, task=Told(), **settings).run(resume=True)
    assert again.stopped_early and again.records == result.records


def test_a_loss_that_is_not_finite_stops_before_the_weights_do(tmp_path):
    sounds = NoisySounds()
    sounds.features[7] = float("nan")
    model = make_model()
    model[2] = nn.Identity()  # whose running mean would have seen the clip
    with pytest.raises(TrainingError, match=r"the loss is nan at epoch 0, step \d of the run \(lr .*\): lower lr"):
        make_trainer(tmp_path, model, train=sounds).run()
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_gradient_that_is_not_finite_stops_too(tmp_path):
    class Root(Labels):
        def loss(self, model, batch, step, generator):
            loss, logs = super().loss(model, batch, step, generator)
            return loss + (loss - loss.detach()).clamp(min=0).sqrt(), logs  # finite, with an infinite slope

    with pytest.raises(TrainingError, match=r"the gradient has norm (nan|inf) at epoch 0, step 0"):
        make_trainer(tmp_path, task=Root()).run()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nTried"),
        MemoryError(),
        RuntimeError("[enforce] can't allocate memory"),
    ],
)
def test_memory_that_ran_out_says_what_to_change(tmp_path, error):
    class Large(Labels):
        def loss(self, *args):
            raise error

    with pytest.raises(TrainingError, match=r"batches of 6: lower batch_size and raise accumulate .* checkpoint_activ"):
        make_trainer(tmp_path, task=Large()).run()


def test_other_errors_stay_what_they_are(tmp_path):
    class Wrong(Labels):
        def loss(self, *args):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        make_trainer(tmp_path, task=Wrong()).run()


def test_accumulated_parts_give_the_gradient_of_the_whole(tmp_path):
    losses = []
    for i, (batch_size, accumulate) in enumerate([(12, 1), (6, 2), (3, 4)]):
        model, seen = make_model(0.0), Recorder()
        model[2] = nn.Identity()
        settings = {"batch_size": batch_size, "accumulate": accumulate, "epochs": 3, "average": None}
        make_trainer(tmp_path / str(i), model, Labels(0.0), callbacks=[seen], **settings).run()
        losses.append([record.loss for record in seen.steps])
    # Four parts of one clip are left out, so the last run parts from the others after its first epoch.
    assert [len(found) for found in losses] == [15, 15, 12]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4) and losses[2][:4] == pytest.approx(losses[0][:4], abs=1e-4)


def test_the_callers_random_state_and_the_models_own_forward_stay(tmp_path):
    model = make_model()
    attributes, state = set(model.__dict__), torch.get_rng_state()

    def look():
        assert "forward" not in model.__dict__  # a patched model asks whether its forward is its family's own

    seen = Recorder(2, look)
    make_trainer(tmp_path, model, callbacks=[seen], epochs=1, average=None, precision="bf16").run()
    assert len(seen.steps) == 5
    assert set(model.__dict__) == attributes and torch.equal(state, torch.get_rng_state())


def test_bf16_trains_in_half_precision_and_fp16_wants_a_gpu(tmp_path):
    dtypes = set()

    class Seen(Labels):
        def loss(self, model, batch, step, generator):
            hook = model[1].register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
            try:
                return super().loss(model, batch, step, generator)
            finally:
                hook.remove()

    model = make_model()
    result = make_trainer(tmp_path / "a", model, Seen(), precision="bf16").run()
    assert dtypes == {torch.bfloat16} and result.records[-1].loss < result.records[0].loss
    assert all(value.dtype == torch.float32 for value in model.parameters())
    make_trainer(tmp_path / "b", model, epochs=1, average=None).run()  # and back
    with pytest.raises(ValueError, match="fp16 needs a GPU: use bf16 or fp32 on the CPU"):
        make_trainer(tmp_path / "c", precision="fp16")


def test_the_state_of_the_gradient_scaler_is_saved_and_restored(tmp_path):
    def scaled(callbacks=()):
        trainer = make_trainer(tmp_path, callbacks=callbacks)
        trainer.devices._accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3)
        return trainer

    with pytest.raises(Killed):
        scaled([Recorder(10, kill)]).run()
    trainer = scaled()
    assert trainer.devices.scaler_state()["scale"] == 4.0
    trainer.run(resume=True)
    # Doubled after every third of twenty steps, of which nine or ten were taken before.
    assert trainer.devices.scaler_state()["scale"] == 4.0 * 2**6


def test_without_accelerate_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"training needs accelerate, .*: pip install 'tome_audio\[recipes\]'"):
        make_trainer(tmp_path)


def test_activation_checkpointing_is_switched_on_or_refused(tmp_path):
    class Offers(nn.Sequential):
        on = False

        def set_grad_checkpointing(self):
            self.on = True

    model = Offers(*make_model())
    make_trainer(tmp_path / "a", model, epochs=1, average=None, checkpoint_activations=True).run()
    assert model.on
    with pytest.raises(ValueError, match="Sequential offers no activation checkpointing"):
        make_trainer(tmp_path / "b", checkpoint_activations=True).run()


def test_without_validation_clips_nothing_is_scored(tmp_path):
    result = make_trainer(tmp_path, valid=False).run()
    assert result.best is None and result.best_weights is None and result.records[0].metrics == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "averaged.safetensors",
        "checkpoints",
        "last.safetensors",
    ]


def test_optimizers_are_those_of_the_settings(tmp_path):
    for name, cls, betas in (("adamw", torch.optim.AdamW, (0.9, 0.999)), ("adam", torch.optim.Adam, (0.95, 0.999))):
        trainer = make_trainer(tmp_path / name, optimizer=name, weight_decay=5e-7, epochs=1, average=None)
        trainer.run()
        optimizer = trainer.optimizer.optimizer
        assert type(optimizer) is cls and optimizer.param_groups[0]["betas"] == betas
        assert optimizer.param_groups[0]["weight_decay"] == 5e-7
        assert len(optimizer.param_groups) == (2 if name == "adamw" else 1)


def test_a_folder_with_a_run_is_not_written_over_and_other_settings_do_not_resume(uninterrupted):
    *_, folder = uninterrupted
    with pytest.raises(ValueError, match="holds a run already: resume it, delete it or choose another folder"):
        make_trainer(folder).run()
    with pytest.raises(ValueError, match=r"other settings \(lr was 0\.01, now 0\.1\): go back to them"):
        make_trainer(folder, lr=0.1).run(resume=True)
    trainer = make_trainer(folder)
    with pytest.raises(ValueError, match=r"other settings \(lambda was None, now 0\.1\)"):
        Trainer(trainer.task, make_model(), trainer.data, trainer.settings, folder, facts={"lambda": 0.1}).run(
            resume=True
        )
    with pytest.raises(ValueError, match="holds another model"):
        make_trainer(folder, nn.Sequential(nn.Flatten(), nn.Linear(60, 3))).run(resume=True)
    make_trainer(folder, save_every=1, keep=5).run(resume=True)  # what comes out does not depend on these


def test_a_teacher_of_some_clips_teaches_parts_of_a_step_what_it_teaches_the_whole(tmp_path):
    (whole, weight), *others = (taught_run(tmp_path / str(size), size, 12 // size) for size in (12, 6, 4))
    assert len(whole) == 30
    for losses, found in others:
        assert losses == pytest.approx(whole, abs=1e-5) and found == pytest.approx(weight, abs=1e-5)


def test_checkpoints_hold_what_they_say(uninterrupted):
    *_, folder = uninterrupted
    found = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert found == ["epoch-0003-step-000000018", "epoch-0004-step-000000020"]
    weights, state = read_checkpoint(folder / "checkpoints" / found[-1])
    assert set(weights) == {"model", "average", "sums"} and state["position"]["epoch"] == 4
    assert same_tensors(weights["model"], uninterrupted[0])


def test_bad_data_is_named(tmp_path):
    trainer = make_trainer(tmp_path)
    for data, message in (
        (TrainingData(NoisySounds(1)), "1 training clips are too few for 1 processes and 2 parts"),
        (TrainingData(NoisySounds(), NoisySounds(0)), "there are no validation clips"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(trainer.task, make_model(), data, trainer.settings, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"precision": "half"}, "precision='half' is unknown; choose one of fp32, bf16, fp16"),
        ({"optimizer": "sgd"}, "optimizer='sgd' is unknown; choose one of adamw, adam"),
        ({"lr": float("inf")}, "lr must be positive, got inf"),
        ({"clip_norm": 0.0}, r"clip_norm must be positive, got 0\.0"),
        ({"save_every": -1}, "save_every must not be negative, got -1"),
        ({"average": (3, 5)}, r"average must be a first and a last epoch from 1 to 4, got \(3, 5\)"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \[0, 1\), got 1\.0"),
    ],
)
def test_bad_settings_are_named(tmp_path, change, message):
    settings = make_trainer(tmp_path).settings
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(settings, **change)
