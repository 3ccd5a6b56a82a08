"""Which clips each step takes: seeded, shared out among processes, able to begin in the middle of an epoch."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from tome_audio.training.seeds import derive_generator, derive_seed
from tome_audio.training.task import Clips, DrawnClips

Collate = Callable[[list[Any]], Any]


class Order(Protocol):
    """A sampler: the clips of an epoch in the order they are taken, fixed by the epoch; always as many.

    One with a method `facts` says what it is, as plain values by name: a resumed run must say the same.
    """

    def __len__(self) -> int:
        """Return how many clips an epoch takes."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration gives."""
        ...

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the clips."""
        ...


class Shuffled:
    """Every clip once, in a random order that depends on (seed, epoch) alone."""

    def __init__(self, n_clips: int, seed: int) -> None:
        self.n_clips, self.seed, self.epoch = n_clips, seed, 0

    def __len__(self) -> int:
        return self.n_clips

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        chosen = torch.randperm(self.n_clips, generator=derive_generator(self.seed, "order", self.epoch))
        return iter(chosen.tolist())

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run must agree on, as plain values."""
        return {"kind": "Shuffled", "seed": self.seed}


@dataclass(frozen=True)
class TrainingData:
    """What is trained on, and what it is scored on.

    Attributes:
        train: Clips to train on; `draw` is called where they have it.
        valid: Clips to score after every epoch; None scores nothing.
        order: A sampler with `set_epoch` that says which clips an epoch takes, such as a class-balanced one; all
            processes get the same and share it out. None takes each once, in random order.
        collate: Makes a batch of a list of clips; None stacks tensors, name by name.
    """

    train: Clips
    valid: Clips | None = None
    order: Order | None = None
    collate: Collate | None = None


@dataclass(frozen=True)
class Share:
    """How the clips of an epoch fall to steps, to the parts of a step, and to processes.

    A step takes batch_size * accumulate * n_processes clips, in order; part a of process p takes the stretch number
    a * n_processes + p of them. So two processes take what one takes with twice the batch. The last step of an epoch
    may be smaller, its parts differing by one clip at most. It is left out where some part would get nothing, or a
    single clip though batches are larger: batch normalisation can learn nothing from one.

    Raises:
        ValueError: There are too few clips for one step.
    """

    n_clips: int
    batch_size: int
    accumulate: int = 1
    n_processes: int = 1
    process: int = 0

    def __post_init__(self) -> None:
        if self.n_clips < self._fewest:
            raise ValueError(
                f"{self.n_clips} training clips are too few for {self.n_processes} processes and {self.accumulate} "
                f"parts of a step: they need {self._fewest} at least"
            )

    @property
    def _parts(self) -> int:
        return self.accumulate * self.n_processes

    @property
    def _fewest(self) -> int:
        return self._parts * min(2, self.batch_size)

    @property
    def n_steps(self) -> int:
        """Steps of an epoch."""
        whole, rest = divmod(self.n_clips, self.batch_size * self._parts)
        return whole + (rest >= self._fewest)

    def step_size(self, step: int) -> int:
        """Return the clips that step (from 0) of an epoch takes, in all processes together."""
        size = self.batch_size * self._parts
        return min(size, self.n_clips - step * size)

    def places(self, step: int, part: int) -> range:
        """Return the places in the epoch's order that this process takes in one part of a step."""
        first, size = step * self.batch_size * self._parts, self.step_size(step)
        stretch = part * self.n_processes + self.process
        return range(first + stretch * size // self._parts, first + (stretch + 1) * size // self._parts)


class Draw(NamedTuple):
    """A clip, and the seed of what is random about it."""

    clip: int
    seed: int


def training_batches(
    clips: Clips,
    order: Order,
    share: Share,
    *,
    seed: int,
    epoch: int,
    first_step: int = 0,
    collate: Collate | None = None,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yield the batches of one process in an epoch, part by part and step by step, from `first_step` on.

    What `DrawnClips.draw` gets depends on (seed, epoch, place in the order): not on the batch size, the number of
    processes or workers, nor on where the epoch was entered. Clips of steps before `first_step` are not read.
    """
    order.set_epoch(epoch)
    batches = _Draws(list(order), share, seed, epoch, first_step)
    yield from _loader(_Drawn(clips), batches, collate, workers, pin_memory)


def evaluation_batches(
    clips: Clips,
    batch_size: int,
    *,
    process: int = 0,
    n_processes: int = 1,
    collate: Collate | None = None,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yield batches of clips `process`, process + n_processes, ...; the last clip stands in where one is lacking."""
    last = len(clips) - 1
    own = [min(place, last) for place in range(process, -(-len(clips) // n_processes) * n_processes, n_processes)]
    batches = [own[i : i + batch_size] for i in range(0, len(own), batch_size)]
    yield from _loader(clips, batches, collate, workers, pin_memory)


@dataclass(frozen=True)
class _Draws:
    numbers: list[int]
    share: Share
    seed: int
    epoch: int
    first_step: int

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.first_step, self.share.n_steps):
            for part in range(self.share.accumulate):
                places = self.share.places(step, part)
                yield [Draw(self.numbers[at], derive_seed(self.seed, "clip", self.epoch, at)) for at in places]


class _Drawn(Dataset[Any]):
    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __getitem__(self, draw: Draw) -> Any:
        if isinstance(self.clips, DrawnClips):
            return self.clips.draw(draw.clip, torch.Generator().manual_seed(draw.seed))
        return self.clips[draw.clip]


def _loader(clips: Any, batches: Any, collate: Collate | None, workers: int, pin_memory: bool) -> Iterator[Any]:
    # A generator of its own: the loader would draw the workers' seeds from the global one.
    loader = DataLoader(
        clips,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_leave_signals_to_the_trainer if workers else None,
    )
    # The only reference, and dropped at exit: the traceback of an error keeps this generator, and its workers, alive.
    held = [iter(loader)]
    atexit.register(held.clear)
    try:
        while (batch := next(held[0], None)) is not None:
            yield batch
    finally:
        held.clear()
        atexit.unregister(held.clear)


def _leave_signals_to_the_trainer(worker: int) -> None:
    # Ctrl-C goes to every process of the terminal, and a scheduler's SIGTERM to the whole group: a worker that dies of
    # it breaks the step that is still to be saved. A second SIGTERM ends one that does not end when it is told to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
