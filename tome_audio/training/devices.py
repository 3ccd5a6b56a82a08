"""One device or several processes, in one precision: the part of the trainer that knows accelerate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tome_audio.installation import import_extra

T = TypeVar("T")

# What accelerate sets on a model. A forward of its own would tell a patched model that its head may read any token.
_SET_BY_ACCELERATE = ("forward", "_original_forward", "_is_accelerate_prepared")


class Devices:
    """The devices that the launcher (`accelerate launch`, `torchrun`, or none) has given this process.

    Args:
        precision: "fp32", "bf16" or "fp16". It is ours to say, whatever the launcher was told.
        cpu: Use the CPU though there is a GPU.

    Raises:
        ValueError: fp16 was asked for without a GPU.
        ImportError: accelerate is absent.
    """

    def __init__(self, precision: str, cpu: bool = False) -> None:
        accelerate = import_extra("accelerate", "training", "recipes")
        state = import_extra("accelerate.state", "training", "recipes")
        # Without an accelerator accelerate joins processes only where it is told of the CPU: otherwise each would train
        # by itself, into one folder.
        cpu = cpu or not torch.accelerator.is_available()
        if precision == "fp16" and accelerate.PartialState(cpu=cpu).device.type == "cpu":
            raise ValueError("fp16 needs a GPU: use bf16 or fp32 on the CPU")
        mixed = "no" if precision == "fp32" else precision
        # One process may train several models in turn, but accelerate keeps the first precision it was told.
        if state.AcceleratorState._shared_state.get("_mixed_precision", mixed) != mixed:
            state.AcceleratorState._reset_state()
        # Without the cache: in older releases of torch a teacher's pass without gradient leaves its half-precision
        # weights to the student's, which then get no gradient.
        autocast = accelerate.utils.AutocastKwargs(cache_enabled=False)
        self._accelerator: Any = accelerate.Accelerator(mixed_precision=mixed, cpu=cpu, kwargs_handlers=[autocast])
        # Accumulation is the trainer's own: what the launcher was told of it would divide every gradient once more.
        self._accelerator.gradient_accumulation_steps = 1
        self._accelerate = accelerate

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return bool(self._accelerator.is_main_process)

    @property
    def n_processes(self) -> int:
        """Processes that train together, on all machines."""
        return int(self._accelerator.num_processes)

    @property
    def process(self) -> int:
        """The number of this one, from 0."""
        return int(self._accelerator.process_index)

    @property
    def is_cuda(self) -> bool:
        """Whether this process has a GPU of NVIDIA or AMD."""
        return bool(self._accelerator.device.type == "cuda")

    @property
    def is_scaled(self) -> bool:
        """Whether gradients are scaled (fp16), so that some steps overflow and are skipped."""
        return self._accelerator.scaler is not None

    @property
    def was_skipped(self) -> bool:
        """Whether the last step of the optimiser was skipped."""
        return bool(self._accelerator.optimizer_step_was_skipped)

    @contextmanager
    def own_random_state(self) -> Iterator[None]:
        """Give the caller's random state back when the context closes."""
        with torch.random.fork_rng(devices=[self._accelerator.device] if self.is_cuda else []):
            yield

    @contextmanager
    def prepared(self, model: nn.Module) -> Iterator[nn.Module]:
        """Put the model on the device, wrapped for several processes; the model itself stays as it is."""
        before = {name: model.__dict__[name] for name in _SET_BY_ACCELERATE if name in model.__dict__}
        try:
            wrapped = self._accelerator.prepare_model(model)
            for name in _SET_BY_ACCELERATE:
                model.__dict__.pop(name, None)
            model.__dict__.update(before)
            yield wrapped
        finally:
            self._accelerator.free_memory()

    def in_precision(self) -> AbstractContextManager[None]:
        """Run what is inside in the precision of the training; nothing in fp32."""
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        """Return the optimiser with its states on the device, and scaled steps where the precision needs them."""
        return self._accelerator.prepare_optimizer(optimizer)

    def place(self, batch: Any) -> Any:
        """Return the batch on the device."""
        send = self._accelerate.utils.send_to_device
        return send(batch, self._accelerator.device, non_blocking=self.is_cuda)

    def without_exchange(self, model: nn.Module) -> AbstractContextManager[None]:
        """Let gradients add up in each process while the context is open."""
        context: AbstractContextManager[None] = self._accelerator.no_sync(model)
        return context

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled where the precision needs it."""
        self._accelerator.backward(loss)

    def clip(self, model: nn.Module, max_norm: float | None) -> Tensor:
        """Clip the gradient of all parameters together, and return the norm it had."""
        limit = math.inf if max_norm is None else max_norm
        return torch.as_tensor(self._accelerator.clip_grad_norm_(model.parameters(), limit))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over processes."""
        total: Tensor = self._accelerator.reduce(values, "sum")
        return total

    def any(self, flag: bool) -> bool:
        """Return whether any process says so."""
        return self.totals([float(flag)])[0] > 0

    def totals(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums of plain numbers over processes."""
        if self.n_processes == 1 or not numbers:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float32, device=self._accelerator.device)
        sums: list[float] = self.sum(values).tolist()
        return sums

    def gather(self, values: Tensor) -> Tensor:
        """Return clips 0, 1, 2, ... of all processes, of which process p has p, p + n_processes, ..."""
        if self.n_processes == 1:
            return values
        together = self._accelerator.gather(values.contiguous())
        return together.unflatten(0, (self.n_processes, -1)).transpose(0, 1).flatten(0, 1)

    def from_main(self, make: Callable[[], T]) -> T:
        """Return in all processes what `make` gives in the main one."""
        held: list[Any] = [make() if self.is_main else None]
        if self.n_processes > 1:
            self._accelerate.utils.broadcast_object_list(held)
        value: T = held[0]
        return value

    def give_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Fill tensors, the same ones in the same order in every process, with what they hold in the main one."""
        if self.n_processes > 1:
            for tensor in tensors:
                tensor.copy_(self._accelerate.utils.broadcast(tensor.detach().contiguous()))

    def wait(self) -> None:
        """Wait until all processes are here."""
        self._accelerator.wait_for_everyone()

    def scaler_state(self) -> dict[str, Any]:
        """Return the state of the gradient scaler; empty without one."""
        return dict(self._accelerator.scaler.state_dict()) if self.is_scaled else {}

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Go on with a saved state of the gradient scaler."""
        if self.is_scaled:
            self._accelerator.scaler.load_state_dict(state)


def checkpoint_activations(model: nn.Module) -> None:
    """Switch activation checkpointing on, as timm, this package or Hugging Face offer it.

    Raises:
        ValueError: The model does not offer it.
    """
    for name in ("set_grad_checkpointing", "gradient_checkpointing_enable"):
        switch = getattr(model, name, None)
        if callable(switch):
            switch()
            return
    raise ValueError(
        f"{type(model).__name__} offers no activation checkpointing (set_grad_checkpointing or "
        "gradient_checkpointing_enable): turn checkpoint_activations off"
    )
