"""Songs that are classified window by window: what all windows of a song say together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tome_audio.metrics import Interval, SingleLabelScores, single_label_scores, with_interval


def song_logits(logits: Tensor, song: Tensor) -> Tensor:
    """Return the mean logits of the windows of each song, (S, K).

    Args:
        logits: (W, K).
        song: Which song each window is of (W,), int64, every song from 0 on being there.

    Raises:
        ValueError: Shapes that do not fit, or a song without a window.
    """
    counts = torch.bincount(song)
    if logits.ndim != 2 or song.shape != logits.shape[:1] or not bool((counts > 0).all()):
        raise ValueError(
            f"logits (windows, classes) need the song of every window, and every song a window; got "
            f"{tuple(logits.shape)} and {tuple(song.shape)}"
        )
    sums = logits.new_zeros(len(counts), logits.shape[1]).index_add_(0, song, logits)
    return sums / counts[:, None]


def song_scores(logits: Tensor, labels: Tensor, song: Tensor) -> tuple[SingleLabelScores, Interval]:
    """Score songs by the mean logits of their windows; the interval is that of the accuracy, over songs.

    Args:
        logits: (W, K).
        labels: Class index of every window (W,), the same for all windows of a song.
        song: As for `song_logits`.

    Raises:
        ValueError: See `song_logits` and `single_label_scores`.
    """
    means = song_logits(logits, song)
    truth = labels.new_zeros(len(means)).scatter_(0, song, labels)
    right = (means.argmax(1) == truth).double()
    return single_label_scores(means, truth), with_interval(lambda values: values.mean(1), right)


class SeenAndUnseen:
    """Accuracy of training songs and of unseen songs, from the logits of all their windows in a fixed order.

    Args:
        song: Which song each window is of (W,).
        unseen: Which songs are kept from training, bool (S,).
    """

    def __init__(self, song: Tensor, unseen: Sequence[bool]) -> None:
        self.song, self.unseen = song, torch.tensor(list(unseen))

    def __call__(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """Return `accuracy`, of training songs, and `unseen_accuracy` where there are unseen songs.

        Raises:
            ValueError: Not the windows that it was made for.
        """
        means = song_logits(logits, self.song)
        truth = labels.new_zeros(len(means)).scatter_(0, self.song, labels)
        right = (means.argmax(1) == truth).double()
        found = {"accuracy": right[~self.unseen].mean().item()}
        if bool(self.unseen.any()):
            found["unseen_accuracy"] = right[self.unseen].mean().item()
        return found

    def facts(self) -> dict[str, int]:
        """Return what a resumed run must agree on."""
        return {"windows": len(self.song), "songs": len(self.unseen), "unseen": int(self.unseen.sum())}
