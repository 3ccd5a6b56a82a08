"""Which runs a suite does: models x methods x r x batch x dtype, by default, with --full, or as the options say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product

import torch
from cases import CASES, Case
from rivals import METHODS

from tome_audio.cli.rates import parse_rates, rate_name
from tome_audio.merge import Rate, expand_schedule

COARSE = "stride-16"
ALL_METHODS = (*METHODS, COARSE)
WITHOUT_R = ("unpatched", COARSE)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_CPU = torch.device("cpu")
HALF, FRONT = "half", "front"
"""Settings of r by what they do: the smallest constant r that halves the MACs; a front-loaded list, 4x fewer."""


@dataclass(frozen=True)
class Runs:
    """Runs of a suite. `models` holds patterns of case names; without `rates` each case has its own.

    `prefix_only` is the option of `apply_patch`, for the method "merged"; None leaves it to the model.
    """

    models: str
    methods: tuple[str, ...] = ("merged",)
    rates: tuple[Rate | str, ...] | None = None
    batches: tuple[int, ...] = (1,)
    dtypes: tuple[str, ...] = ("float32",)
    prefix_only: bool | None = None

    def match(self, name: str) -> bool:
        """Return whether these runs are for the case of this name."""
        return any(fnmatchcase(name, pattern) for pattern in self.models.split())


@dataclass(frozen=True)
class Plan:
    """What a suite runs by default and with --full, which methods it serves, and which options it heeds."""

    quick: tuple[Runs, ...]
    full: tuple[Runs, ...]
    methods: tuple[str, ...] = ALL_METHODS
    takes_methods: bool = True
    takes_r: bool = True
    takes_batch: bool = True
    takes_checkpoint: bool = False


@dataclass(frozen=True)
class Run:
    """One measurement: a method with one r on one model."""

    case: Case
    method: str
    rate: Rate
    batch: int
    dtype: str
    prefix_only: bool | None = None

    def __str__(self) -> str:
        rate = "" if self.method in WITHOUT_R else f"-r{rate_name(self.rate)}"
        prefix = {None: "", True: "-prefix_only", False: "-every_token"}[self.prefix_only]
        return f"{self.case.name}-{self.method}{rate}-b{self.batch}-{self.dtype}{prefix}"


@dataclass(frozen=True)
class Settings:
    """What the options say. None means that the suite decides."""

    rates: tuple[Rate | str, ...] | None = None
    models: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    batches: tuple[int, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    prefix_only: bool | None = None
    device: torch.device = _CPU
    compiled: bool = False
    full: bool = False
    turns: int | None = None
    checkpoint: Case | None = None
    data: str | None = None
    command: str = "pytest benchmarks"

    def turns_for(self, seconds: float, most: int) -> int:
        """Return how many turns to take where one takes that long: a fixed time's worth, between limits."""
        if self.turns is not None:
            return self.turns
        budget, least = (30.0, 7) if self.full else (3.0, 3)
        return max(least, min(most, int(budget / max(seconds, 1e-9))))


def choose(plan: Plan, settings: Settings) -> list[Run]:
    """Return the runs of a suite under these settings, each once, those of one model together."""
    runs = {}
    for case, part in _parts(plan, settings):
        asked = settings.methods if settings.methods and plan.takes_methods else part.methods
        methods = [method for method in asked if method in plan.methods]
        wanted = settings.rates if settings.rates and plan.takes_r else part.rates
        batches = settings.batches if settings.batches and plan.takes_batch else part.batches
        for dtype, batch, method in product(settings.dtypes or part.dtypes, batches, methods):
            if method == COARSE and case.coarse is None:
                continue
            prefix_only = part.prefix_only if settings.prefix_only is None else settings.prefix_only
            for rate in (0,) if method in WITHOUT_R else [resolve(case, r) for r in wanted or case.rates]:
                # By itself a model cuts the last block short where it merges: asking for that is no run of its own.
                own = method != "merged" or prefix_only == any(expand_schedule(rate, case.depth))
                run = Run(case, method, rate, batch, dtype, None if own else prefix_only)
                runs[str(run)] = run
    return list(runs.values())


def resolve(case: Case, rate: Rate | str) -> Rate:
    """Return r as a number or a list, for this model."""
    if isinstance(rate, str):
        return case.half() if rate == HALF else case.front()
    return rate


def _parts(plan: Plan, settings: Settings) -> Iterator[tuple[Case, Runs]]:
    """Yield each model with the runs the suite does on it."""
    chosen = plan.full if settings.full else plan.quick
    if plan.takes_checkpoint and settings.checkpoint is not None:
        yield settings.checkpoint, replace(chosen[0], rates=None)
        return
    if settings.models is None:
        names = [name for name, case in CASES.items() if not case.hidden]
    else:
        names = list(settings.models)
    for name in names:
        own = [part for part in chosen if part.match(name)]
        if not own and settings.models is not None:  # asked for by name: what --full would do with it
            own = [part for part in plan.full if part.match(name)]
        for part in own:
            yield CASES[name], part


def read_names(text: str | None, known: Sequence[str], what: str) -> tuple[str, ...] | None:
    """Read a comma list of names or patterns; hidden models match by their full name only.

    Raises:
        ValueError: if one of them means nothing, naming the choices.
    """
    if text is None:
        return None
    visible = [name for name in known if name not in CASES or not CASES[name].hidden]
    found: list[str] = []
    for pattern in (word.strip() for word in text.split(",")):
        names = [pattern] if pattern in known else [name for name in visible if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"{what} {pattern!r} is unknown; choose from {', '.join(visible)}")
        found += [name for name in names if name not in found]
    return tuple(found)


def read_rates(texts: Sequence[str] | None) -> tuple[Rate | str, ...] | None:
    """Read settings of r: `8`, `[94,60]`, `(8,-1)`, `half` or `front`, separated by commas.

    Raises:
        ValueError: if one is not understood.
    """
    if not texts:
        return None
    text = ",".join(texts)
    words = [word for word in (HALF, FRONT) if word in text.split(",")]
    numbers = ",".join(word for word in text.split(",") if word not in words)
    return (*(parse_rates(numbers) if numbers else ()), *words)


def read_device(text: str) -> torch.device:
    """Read the device.

    Raises:
        ValueError: if it is not there.
    """
    known = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if text not in known:
        raise ValueError(f"--device {text!r} is not to be had here; choose from {', '.join(known)}")
    return torch.device(text)
