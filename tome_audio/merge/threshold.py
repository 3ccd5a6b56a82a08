"""A similarity above which tokens merge: amounts that depend on the clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class SimilarityThreshold:
    """Merge what is similar enough: noise and silence merge further than speech, as in arXiv 2306.16009 and 2505.15160.

    Every matching counts the pairs whose cosine is above its threshold. All clips of a batch need the same number of
    tokens, so they merge the same number of pairs, a quantile of their counts. Where a token mask says that clips
    differ in length, each clip merges its own count.

    Attributes:
        threshold: of every block, or a list with one per block (nothing merges after its end).
        before: thresholds of rounds among neighbours before the first block, on the tokens themselves.
        quantile: which clip of the batch decides: 0 is the one with the fewest similar pairs, 1 the one with the most.

    Raises:
        ValueError: if a threshold is no cosine, or the quantile is not from 0 to 1.
    """

    threshold: float | tuple[float, ...]
    before: tuple[float, ...] = ()
    quantile: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.threshold, Sequence) and not isinstance(self.threshold, str):
            object.__setattr__(self, "threshold", tuple(_cosine("threshold", value) for value in self.threshold))
        else:
            object.__setattr__(self, "threshold", _cosine("threshold", self.threshold))
        before = (
            self.before if isinstance(self.before, Sequence) and not isinstance(self.before, str) else [self.before]
        )
        object.__setattr__(self, "before", tuple(_cosine("before", value) for value in before))
        if isinstance(self.quantile, bool) or not isinstance(self.quantile, Real) or not 0 <= float(self.quantile) <= 1:
            raise ValueError(f"quantile={self.quantile!r} of a SimilarityThreshold must be a number from 0 to 1")
        object.__setattr__(self, "quantile", float(self.quantile))

    def of_blocks(self, depth: int) -> tuple[float | None, ...]:
        """Return the threshold of each of `depth` blocks, None where nothing merges.

        Raises:
            ValueError: if it lists more than `depth` blocks.
        """
        if isinstance(self.threshold, float):
            return (self.threshold,) * depth
        if len(self.threshold) > depth:
            raise ValueError(
                f"the threshold lists {len(self.threshold)} blocks but the model has {depth}; shorten the list"
            )
        return (*self.threshold, *(None,) * (depth - len(self.threshold)))


def common_amount(counts: Sequence[int], quantile: float) -> int:
    """Return the count that stands at this quantile of all clips' counts, the lower neighbour between two."""
    return sorted(counts)[int(quantile * (len(counts) - 1))]


def _cosine(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not -1 <= float(value) <= 1:
        raise ValueError(f"{name}={value!r} of a SimilarityThreshold must be a cosine, a number from -1 to 1")
    return float(value)
