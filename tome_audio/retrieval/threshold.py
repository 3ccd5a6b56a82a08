"""When a song holds no sample: a threshold from songs of which one knows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tome_audio.data.clips import DataError
from tome_audio.data.whole_file import whole_file

CALIBRATION_NAME = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """A threshold, and how it did on the songs that it was chosen on.

    Attributes:
        threshold: A song whose best score is larger holds a sample.
        wanted_rate: Largest part of the songs without a sample that may be taken for songs with one.
        false_positive_rate: Part of them that is.
        detection_rate: Part of the songs with a sample that is found out; None without such songs.
        n_without: Songs without a sample.
        n_with: Songs with one.
        n_references: Tracks in the index at that time: best scores grow with them.
        votes: What the scores depend on beside the index: options of the votes, hop, variants.
    """

    threshold: float
    wanted_rate: float
    false_positive_rate: float
    detection_rate: float | None
    n_without: int
    n_with: int
    n_references: int
    votes: Mapping[str, Any] = field(default_factory=dict)


def calibrate(
    without: Sequence[float],
    with_sample: Sequence[float] = (),
    *,
    rate: float = 0.05,
    n_references: int,
    votes: Mapping[str, Any] | None = None,
) -> Calibration:
    """Return the smallest threshold above which at most `rate` of the songs without a sample score.

    Args:
        without: Best scores of songs without a sample.
        with_sample: Best scores of songs with one; they choose nothing.
        rate: In [0, 1).
        n_references: Tracks in the index that was searched.
        votes: What the scores depend on beside the index: options of the votes, hop, variants.

    Raises:
        ValueError: No song without a sample, a score that is not finite, or `rate` out of range.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1), got {rate}")
    if not without:
        raise ValueError("a threshold needs songs without a sample: there is none")
    if not all(math.isfinite(score) for score in (*without, *with_sample)):
        raise ValueError("a score is NaN or infinite")
    ordered = sorted(without, reverse=True)
    threshold = ordered[math.floor(rate * len(ordered) + 1e-9)]
    above = sum(score > threshold for score in without) / len(without)
    found = sum(score > threshold for score in with_sample) / len(with_sample) if with_sample else None
    return Calibration(
        threshold, rate, above, found, len(without), len(with_sample), n_references, dict(votes or {})
    )  # fmt: skip


def write_calibration(folder: str | Path, calibration: Calibration) -> Path:
    """Write the threshold into the folder of an index, whole or not at all, and return the file.

    Raises:
        OSError: The folder cannot be written.
    """
    path = Path(folder) / CALIBRATION_NAME
    with whole_file(path) as partial:
        partial.write_text(json.dumps(asdict(calibration), indent=2) + "\n", encoding="utf-8")
    return path


def read_calibration(folder: str | Path) -> Calibration | None:
    """Read the threshold of an index; None where there is none.

    Raises:
        DataError: The file is damaged.
    """
    path = Path(folder) / CALIBRATION_NAME
    if not path.is_file():
        return None
    try:
        found = Calibration(**json.loads(path.read_text(encoding="utf-8")))
        if not math.isfinite(found.threshold):
            raise ValueError(f"threshold {found.threshold}")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and calibrate again") from error
    return found
