"""Training on any device and any number of processes, by accelerate: resumed bit for bit, loud when it diverges.

Everything random is drawn from seeds that say what it is for (`derive_seed`), so that no random state is saved. What
`draw` gives a clip does not depend on how many processes share the work; dropout, and what the task draws for a batch,
such as its augmentation, does: each process and each part of a step has a seed of its own. Bit for bit means: on the
same machine, with the same libraries, settings and number of processes, where the model's own kernels are
deterministic.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tome_audio.training.averaging import EpochMean, MovingAverage, holding
from tome_audio.training.batches import Order, Share, Shuffled, TrainingData, evaluation_batches, training_batches
from tome_audio.training.callbacks import Callback
from tome_audio.training.devices import Devices, checkpoint_activations
from tome_audio.training.errors import TrainingInterrupted, diverged, memory_errors
from tome_audio.training.optim import AST_BETAS, make_adam, make_optimizer
from tome_audio.training.records import EpochRecord, Position, StepRecord, TrainingResult
from tome_audio.training.run_folder import RunFolder, check_facts, check_same_facts, facts_of, read_checkpoint
from tome_audio.training.seeds import derive_generator, derive_seed
from tome_audio.training.settings import TrainerSettings
from tome_audio.training.signals import StopRequest
from tome_audio.training.task import Batch, Clips, CountingTask, Task


class Trainer:
    """Train a model in place.

    The same call serves one process and several: start the command with `accelerate launch` or `torchrun`. All
    processes must see the same folder.

    Args:
        task: What is learnt.
        model: Merges tokens only if it is patched already.
        data: Clips to train on and to score.
        settings: How.
        folder: Where checkpoints and weights go; see `RunFolder`.
        callbacks: Called by the main process.
        facts: Whatever a resumed run must agree on beside the settings and what order and task say of themselves, such
            as the recipe's own settings; JSON values.

    Raises:
        ValueError: There are too few clips, nothing to train, or facts that are no JSON values.
        ImportError: accelerate is absent.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        data: TrainingData,
        settings: TrainerSettings,
        folder: str | Path,
        *,
        callbacks: Sequence[Callback] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.task, self.data, self.settings = task, data, settings
        self.model = model
        self.devices = Devices(settings.precision, settings.cpu)
        self.folder = RunFolder(folder, settings.keep)
        self.callbacks = tuple(callbacks) if self.devices.is_main else ()
        self.order: Order = Shuffled(len(data.train), settings.seed) if data.order is None else data.order
        self.share = Share(
            len(self.order), settings.batch_size, settings.accumulate, self.devices.n_processes, self.devices.process
        )
        self.total_steps = self.share.n_steps * settings.epochs
        settings.learning_rate.factor(0, 0, self.total_steps)
        if data.valid is not None and len(data.valid) == 0:
            raise ValueError("there are no validation clips: give some, or None to score nothing")
        self.facts = {**settings.facts(), "clips": len(data.train), "clips per epoch": len(self.order)}
        said = {**facts_of("order", self.order), **facts_of("task", task), **(facts or {})}
        check_facts(said)
        self.facts |= {"processes": self.devices.n_processes, **said}
        self.position = Position()
        self.mean = EpochMean()
        self.average: MovingAverage | None = None
        self.wrapped: nn.Module = model
        self.optimizer: Any = None

    def run(self, resume: bool = False) -> TrainingResult:
        """Train to the end, and leave the model with its last weights, on its device.

        Args:
            resume: Go on from the newest checkpoint in the folder, if there is one, also in the middle of an epoch. The
                weights become those an uninterrupted run would have given, bit for bit.

        Raises:
            ValueError: The folder holds a run that is not to be resumed, or one of other settings or another model.
            TrainingError: The loss or its gradient is not finite, or memory ran out.
            TrainingInterrupted: SIGINT or SIGTERM came; the state has been saved.
        """
        with ExitStack() as stack:
            stack.enter_context(self.devices.own_random_state())
            stop = stack.enter_context(StopRequest())
            stack.enter_context(self._prepared())
            stack.enter_context(memory_errors(self.settings.batch_size))
            self._restore(resume)
            for callback in self.callbacks:
                callback.on_start(self.position, self.total_steps)
            while not self._is_finished():
                self._train_epoch(stop)
                self._end_epoch()
                if not self._is_finished() and self.devices.any(bool(stop.name)):
                    self._interrupt(stop)
            result = self._finish()
            for callback in self.callbacks:
                callback.on_end(result)
            return result

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        s = self.settings
        if s.checkpoint_activations:
            checkpoint_activations(self.model)
        with self.devices.prepared(self.model) as self.wrapped:
            make, betas = (make_adam, AST_BETAS) if s.optimizer == "adam" else (make_optimizer, (0.9, 0.999))
            self.optimizer = self.devices.prepare_optimizer(make(self.model, s.lr, s.weight_decay, s.betas or betas))
            self.average = None if s.ema_decay is None else MovingAverage(self.model, s.ema_decay)
            yield

    def _is_finished(self) -> bool:
        return self.position.epoch >= self.settings.epochs or self._is_stopped_early()

    def _is_stopped_early(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.position.epochs_without_gain >= patience

    def _train_epoch(self, stop: StopRequest) -> None:
        p, s = self.position, self.settings
        batches = training_batches(
            self.data.train, self.order, self.share, seed=s.seed, epoch=p.epoch, first_step=p.step_in_epoch,
            collate=self.data.collate, workers=s.workers, pin_memory=self.devices.is_cuda,
        )  # fmt: skip
        self.wrapped.train()
        while p.step_in_epoch < self.share.n_steps:
            start = time.perf_counter()
            record, stopping = self._step(batches, bool(stop.name), start)
            p.loss_sum += record.loss * self.share.step_size(p.step_in_epoch)
            p.n_clips += self.share.step_size(p.step_in_epoch)
            p.step, p.step_in_epoch = p.step + 1, p.step_in_epoch + 1
            p.seconds += time.perf_counter() - start
            for callback in self.callbacks:
                callback.on_step(record)
            if stopping:
                self._interrupt(stop)
            # The last step of an epoch is saved with the epoch.
            if s.save_every and p.step % s.save_every == 0 and p.step_in_epoch < self.share.n_steps:
                self._save()

    def _step(self, batches: Iterator[Batch], stopping: bool, start: float) -> tuple[StepRecord, bool]:
        p, s = self.position, self.settings
        lr = s.lr * s.learning_rate.factor(p.step, p.epoch, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        names, sums = self._accumulate(batches)
        # One exchange between processes: the means, and whether any of them was asked to stop.
        loss, *logs, asked = self.devices.sum(torch.cat([sums, sums.new_tensor([float(stopping)])])).tolist()
        if not math.isfinite(loss):
            raise diverged(f"the loss is {loss}", p.epoch, p.step, lr)
        norm = float(self.devices.clip(self.model, s.clip_norm))
        if not math.isfinite(norm) and not self.devices.is_scaled:
            raise diverged(f"the gradient has norm {norm}", p.epoch, p.step, lr)
        self.optimizer.step()
        skipped = self.devices.was_skipped
        if self.average is not None and not skipped:
            self.average.update(self.model)
        values = dict(zip(names, logs, strict=True))
        record = StepRecord(p.epoch, p.step, loss, lr, norm, values, skipped, time.perf_counter() - start)
        return record, asked > 0

    def _accumulate(self, batches: Iterator[Batch]) -> tuple[list[str], Tensor]:
        # Gradients of the mean loss over all clips of the step, and this process's part of that mean and of the logs.
        p, s = self.position, self.settings
        size, names, sums = self.share.step_size(p.step_in_epoch), [], None
        parts = [next(batches) for _ in range(s.accumulate)]
        counted = self._counted(parts)
        for part, batch in enumerate(parts):
            portion = len(self.share.places(p.step_in_epoch, part)) / size
            if counted:
                batch = {**batch, **{name: count * portion for name, count in counted.items()}}
            batch = self.devices.place(batch)
            where = (s.seed, "step", p.step, part, self.devices.process)
            torch.manual_seed(derive_seed(*where))  # dropout and drop-path know only the global state
            waiting = part < s.accumulate - 1
            with self.devices.without_exchange(self.wrapped) if waiting else nullcontext():
                with self.devices.in_precision():
                    loss, logs = self.task.loss(self.wrapped, batch, p.step, derive_generator(*where, "batch"))
                # Gradients are averaged over processes, so each brings its portion times their number.
                self.devices.backward(loss * (portion * self.devices.n_processes))
            names = sorted(logs)
            values = torch.stack([loss.detach().float(), *(logs[name].detach().float() for name in names)]) * portion
            sums = values if sums is None else sums + values
        assert sums is not None  # accumulate is at least 1
        return names, sums

    def _counted(self, parts: Sequence[Batch]) -> dict[str, float]:
        # What the task counts, over all parts of the step in all processes.
        if not isinstance(self.task, CountingTask):
            return {}
        counts = [self.task.counts(part) for part in parts]
        names = sorted(counts[0])
        return dict(zip(names, self.devices.totals([sum(c[name] for c in counts) for name in names]), strict=True))

    def _end_epoch(self) -> None:
        p, s = self.position, self.settings
        start = time.perf_counter()
        self._share_buffers()
        if s.average is not None and s.average[0] <= p.epoch + 1 <= s.average[1]:
            self.mean.add(self.model.state_dict())
        average = None if self.average is None else self.average.weights
        metrics = {} if self.data.valid is None else self._evaluate(self.data.valid, average)
        score = None if self.data.valid is None else self.task.score(metrics)
        lr = float(self.optimizer.param_groups[0]["lr"])
        if score is not None and not math.isfinite(score):
            raise diverged(f"the validation score is {score}", p.epoch, p.step, lr)
        seconds = p.seconds + time.perf_counter() - start
        record = EpochRecord(p.epoch, p.step, p.loss_sum / p.n_clips, lr, metrics, score, seconds)
        p.records.append(record)
        if p.best is record and self.devices.is_main:
            self.folder.write_weights("best", self._weights())
        p.epoch, p.step_in_epoch = p.epoch + 1, 0
        p.loss_sum, p.n_clips, p.seconds = 0.0, 0, 0.0
        for callback in self.callbacks:
            callback.on_epoch(record)
        self._save()

    @torch.no_grad()
    def _share_buffers(self) -> None:
        # Batch normalisation has seen other clips in each process, and the main one's statistics are what is saved.
        buffers = dict(self.model.named_buffers(remove_duplicate=False))
        self.devices.give_from_main(buffers.values())
        if self.average is not None:
            self.devices.give_from_main(v for name, v in self.average.weights.items() if name in buffers)

    @torch.no_grad()
    def _evaluate(self, clips: Clips, weights: Mapping[str, Tensor] | None) -> dict[str, float]:
        # Figures with these weights, or the model's own; the same in all processes.
        s = self.settings
        batches = evaluation_batches(
            clips, s.eval_batch_size or s.batch_size, process=self.devices.process,
            n_processes=self.devices.n_processes, collate=self.data.collate, workers=s.workers,
            pin_memory=self.devices.is_cuda,
        )  # fmt: skip
        with nullcontext() if weights is None else holding(self.model, weights), self.devices.in_precision():
            self.model.eval()
            parts = [self.task.outputs(self.model, self.devices.place(batch)) for batch in batches]
        outputs = {name: self.devices.gather(torch.cat([part[name] for part in parts])) for name in parts[0]}
        outputs = {name: value[: len(clips)].cpu() for name, value in outputs.items()}
        return {
            name: float(value) for name, value in self.devices.from_main(lambda: self.task.metrics(outputs)).items()
        }

    def _weights(self) -> Mapping[str, Tensor]:
        # Those that are scored.
        return self.model.state_dict() if self.average is None else self.average.weights

    def _finish(self) -> TrainingResult:
        averaged, metrics = None, {}
        if self.mean.n_epochs:
            mean = self.mean.mean()
            if self.data.valid is not None:
                metrics = self._evaluate(self.data.valid, mean)
            averaged = self.folder.path / "averaged.safetensors"
            if self.devices.is_main:
                self.folder.write_weights("averaged", mean)
        if self.devices.is_main:
            self.folder.write_weights("last", self._weights())
        self.devices.wait()
        best = self.position.best
        return TrainingResult(
            records=list(self.position.records),
            best=best,
            best_weights=None if best is None else self.folder.path / "best.safetensors",
            last_weights=self.folder.path / "last.safetensors",
            averaged_weights=averaged,
            averaged_metrics=metrics,
            stopped_early=self._is_stopped_early(),
        )

    def _save(self) -> None:
        if self.devices.is_main:
            weights: dict[str, Mapping[str, Tensor]] = {"model": self.model.state_dict()}
            state = {
                "facts": self.facts,
                "position": self.position.to_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.devices.scaler_state(),
                "averaged epochs": self.mean.n_epochs,
                "average updates": 0 if self.average is None else self.average.n_updates,
            }
            if self.average is not None:
                weights["average"] = self.average.weights
            if self.mean.n_epochs:
                weights["sums"] = self.mean.sums
            self.folder.save(self.position.epoch, self.position.step, weights, state)
        self.devices.wait()

    def _restore(self, resume: bool) -> None:
        # The main process says which checkpoint it is: a folder shared over a network may be late elsewhere.
        found = self.devices.from_main(lambda: [str(path) for path in self.folder.found()[-1:]])
        if not found:
            return
        path = Path(found[0])
        if not resume:
            raise ValueError(f"{self.folder.path} holds a run already: resume it, delete it or choose another folder")
        weights, state = read_checkpoint(path)
        check_same_facts(path, state["facts"], self.facts)
        try:
            self.model.load_state_dict(weights["model"])
        except RuntimeError as error:
            raise ValueError(f"{path} holds another model ({error}): choose another folder") from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.devices.load_scaler_state(state["scaler"])
        if self.average is not None:
            self.average.load(weights["average"], state["average updates"])
        self.mean.sums, self.mean.n_epochs = weights.get("sums", {}), state["averaged epochs"]
        self.position = Position.from_dict(state["position"])
        seen, wanted = self.position.epoch, self.settings.epochs
        if (seen, self.position.step_in_epoch) > (wanted, 0):
            raise ValueError(
                f"{path} has gone through {seen} epochs and {self.position.step_in_epoch} steps, beyond the {wanted} "
                "that are asked for: ask for more, or choose another folder"
            )

    def _interrupt(self, stop: StopRequest) -> None:
        self._save()
        p = self.position
        raise TrainingInterrupted(
            f"{stop.name or 'another process'} stopped the run; it is saved after step {p.step}: resume it to go on"
        )
