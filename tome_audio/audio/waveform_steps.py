"""Steps of waveform augmentation that are drawn from Python's generators, and how the global ones are kept apart."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator

import numpy as np

Step = Callable[[np.ndarray, int], np.ndarray]
"""Takes samples (T,) in float32 and their rate in Hz, gives samples (T,)."""

_SPLICE_FADE_SECONDS = 0.005

# audiomentations draws from the global random states: one call at a time may have them seeded.
_GLOBAL_STATES = threading.Lock()


def augmented(
    samples: np.ndarray, steps: list[tuple[float, Step]], sample_rate: int, draws: random.Random
) -> np.ndarray:
    """Samples (T,) after those of the steps that were drawn, as a new float32 array (T,)."""
    changed = samples.astype(np.float32)
    for probability, step in steps:
        if draws.random() < probability:
            changed = step(changed, sample_rate)
    return np.ascontiguousarray(changed, dtype=np.float32)


def splice_out(
    samples: np.ndarray, draws: random.Random, n_splices: int, max_width: int, sample_rate: int
) -> np.ndarray:
    """Cut intervals out of samples (T,), join what is left with short cross-fades, and end with zeros: (T,).

    Every interval is 0 to `max_width` samples long and at most a tenth of the clip.
    """
    kept = samples
    for _ in range(n_splices):
        width = draws.randint(0, min(max_width, len(samples) // 10, len(kept)))
        start = draws.randint(0, len(kept) - width)
        left, cut, right = np.split(kept, [start, start + width])
        fade = min(int(_SPLICE_FADE_SECONDS * sample_rate), len(cut), len(right))
        rising = (np.arange(1, fade + 1) / (fade + 1)).astype(samples.dtype)
        kept = np.concatenate([left, cut[:fade] * (1 - rising) + right[:fade] * rising, right[fade:]])
    return np.concatenate([kept, np.zeros(len(samples) - len(kept), samples.dtype)])


def silence_parts(samples: np.ndarray, draws: random.Random, n_masks: int, part: float) -> np.ndarray:
    """Samples (T,) with `n_masks` stretches of `part` of T set to zero, in a new array."""
    silenced, width = samples.copy(), int(part * len(samples))
    for _ in range(n_masks):
        start = draws.randint(0, len(samples) - width)
        silenced[start : start + width] = 0.0
    return silenced


@contextlib.contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global random states of Python and NumPy inside, and put back afterwards what they were.

    Threads wait for each other here. Code that draws from the global states in another thread meanwhile is not
    kept apart.
    """
    with _GLOBAL_STATES:
        # audiomentations takes no generator: the legacy functions are what it draws from.
        before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)  # noqa: NPY002
