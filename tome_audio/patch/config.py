"""What a patched model merges, as one checked value."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from tome_audio.merge import MATCHINGS, ComputeTarget, Rate, Schedule, SimilarityThreshold, check_rate

Metric = Literal["key", "value", "hidden"]
Matching = Literal["bipartite", "adjacent", "ward", "random"]
"""Matchings of this package; `register_matching` adds others."""
_BY_COSINE = ("bipartite", "adjacent")


@dataclass(frozen=True)
class MergeConfig:
    """The options of `apply_patch`; see there for what each one does.

    Raises:
        ValueError: if an option has a value that is not understood.
    """

    r: Rate = 0
    metric: Metric = "key"
    matching: Matching | str = "bipartite"
    prop_attn: bool = True
    unmerge: bool = False
    n_prefix: int | None = None
    prefix_only: bool | None = None
    seed: int = 0
    rounds: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "r", check_rate(self.r))
        _check_choice("metric", self.metric, get_args(Metric))
        _check_choice("matching", self.matching, tuple(MATCHINGS))
        if isinstance(self.r, Schedule):
            for name in self.r.matchings:
                _check_choice("a block's matching", name, ("", *MATCHINGS))
            for name in self.r.metrics:
                _check_choice("a block's metric", name, ("", *get_args(Metric)))
        if isinstance(self.r, SimilarityThreshold) and self.matching not in _BY_COSINE:
            raise ValueError(
                f"{self.matching} pairs have no similarity to compare: a SimilarityThreshold takes another matching, "
                f"{' or '.join(_BY_COSINE)}"
            )
        for name in ("prop_attn", "unmerge"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.prefix_only is not None and not isinstance(self.prefix_only, bool):
            raise ValueError(f"prefix_only must be True, False or None, got {self.prefix_only!r}")
        if self.n_prefix is not None:
            object.__setattr__(self, "n_prefix", _whole_number("n_prefix", self.n_prefix))
        object.__setattr__(self, "seed", _whole_number("seed", self.seed))
        object.__setattr__(self, "rounds", _whole_number("rounds", self.rounds, least=1))
        if isinstance(self.r, SimilarityThreshold) and self.rounds > 1:
            raise ValueError("a SimilarityThreshold merges what is similar in one round: leave rounds out")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; an r that is no number or list is written as its parts by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"r": _rate_to_plain(self.r)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MergeConfig:
        """Return the config that `to_dict` wrote.

        Raises:
            ValueError: if a name is unknown or a value is not understood.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown merge options {unknown}; known are {sorted(known)}")
        return cls(**{**values, "r": _rate_from_plain(values.get("r", 0))})


def _rate_to_plain(rate: Rate) -> Any:
    if isinstance(rate, tuple):
        return {"r": rate[0], "inflection": rate[1]}
    if isinstance(rate, Schedule):
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(rate).items()}
    if isinstance(rate, ComputeTarget | SimilarityThreshold):
        return asdict(rate)
    return rate


def _rate_from_plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    for kind, needed in ((Schedule, "blocks"), (ComputeTarget, "macs_cut"), (SimilarityThreshold, "threshold")):
        if needed in value:
            names = {field.name for field in fields(kind)}
            if unknown := sorted(set(value) - names):
                raise ValueError(f"r has unknown parts {unknown}; a {kind.__name__} has {sorted(names)}")
            return kind(**value)
    return (value.get("r"), value.get("inflection"))


def _whole_number(name: str, value: Any, least: int = 0) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
    return number


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")
