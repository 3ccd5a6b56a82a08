"""Clips of a manifest as training takes them: waveform, mixup, filter bank, masks, normalisation, in AST's order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tome_audio.audio import ast_features, read_audio
from tome_audio.audio.augment import ast_augment, time_roll
from tome_audio.audio.features import AstStatistics, normalise
from tome_audio.audio.mixup import draw_mixup, mix_targets, mix_waveforms
from tome_audio.data.feature_cache import FeatureCache
from tome_audio.data.manifest import Manifest

Answer = Callable[[str], tuple[Tensor, bool]]
"""A teacher's probabilities (C,) for a clip id, and whether it knows the clip."""


@dataclass(frozen=True)
class Augmentation:
    """What is random about a training clip.

    Attributes:
        mixup: Probability of a clip to be mixed with another, waveform with waveform.
        mixup_alpha: Of Beta(alpha, alpha), a whole number.
        freqm: Number of widths of the masked band, in mel bins; 0 masks none.
        timem: Number of widths of the masked stretch, in frames; 0 masks none.
        noise: Add noise and roll by -10 to 9 frames, as AST does for Speech Commands.
        max_shift: Roll by up to so many frames either way; 0 rolls nothing.
    """

    mixup: float = 0.0
    mixup_alpha: int = 10
    freqm: int = 0
    timem: int = 0
    noise: bool = False
    max_shift: int = 0


class ManifestClips:
    """The clips of a manifest as items for the trainer: `features` (T, F), `labels`, and what a teacher says.

    `labels` is the class index, or (C,) in float32 where clips have several labels or mixup mixes them. With a teacher
    a training item also holds `teacher` (C,), probabilities, and `teacher_known`; a mixture is known if both parts are.

    Args:
        manifest: Checked: every clip can be read and has known labels.
        statistics: Frames, mean and std of the model's input.
        n_mels: Mel bins.
        augmentation: For `draw`; None draws nothing at random.
        multi_label: Clips have any number of labels.
        answer: What a teacher says to a clip.
        in_memory: Keep decoded waveforms; every worker keeps its own.
        cache: Keeps filter banks of clips that are not mixed, by its own settings.
    """

    def __init__(
        self,
        manifest: Manifest,
        statistics: AstStatistics,
        *,
        n_mels: int = 128,
        augmentation: Augmentation | None = None,
        multi_label: bool = False,
        answer: Answer | None = None,
        in_memory: bool = False,
        cache: FeatureCache | None = None,
    ) -> None:
        self.manifest, self.statistics, self.n_mels = manifest, statistics, n_mels
        self.augmentation = augmentation or Augmentation()
        self.multi_label, self.answer, self.cache = multi_label, answer, cache
        self._kept: dict[int, Tensor] | None = {} if in_memory else None
        self._indices = None if multi_label else manifest.class_indices()

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return a clip as it is, with its own label."""
        features = normalise(self._log_mels(index), self.statistics.mean, self.statistics.std)
        return {"features": features, "labels": self._label(index)}

    def draw(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return a clip for training, augmented and perhaps mixed with another."""
        a, s = self.augmentation, self.statistics
        drawn = draw_mixup(torch.tensor([index]), len(self), a.mixup, generator, a.mixup_alpha)
        other, weight = int(drawn.partner), float(drawn.weight)
        mixed = weight < 1
        log_mels = self._log_mels(index) if not mixed else self._features(self._mixed(index, other, weight))
        features = ast_augment(
            log_mels[None], generator, mean=s.mean, std=s.std, freqm=a.freqm, timem=a.timem, noise=a.noise
        )
        if a.max_shift:
            features = time_roll(features, generator, a.max_shift)
        item = {"features": features[0], "labels": self._mixed_label(index, other, weight)}
        if self.answer is not None:
            item |= self._teacher(self.answer, index, other, weight)
        return item

    def _label(self, index: int) -> Tensor:
        return self.manifest.target(index) if self._indices is None else self._indices[index]

    def _mixed_label(self, index: int, other: int, weight: float) -> Tensor:
        if not self.augmentation.mixup:  # then all labels of a batch are of this kind
            return self._label(index)
        return _mix(self.manifest.target(index), self.manifest.target(other), weight)

    def _teacher(self, answer: Answer, index: int, other: int, weight: float) -> dict[str, Tensor]:
        entries = self.manifest.entries
        given, known = answer(entries[index].id)
        if other != index:
            second, also_known = answer(entries[other].id)
            given, known = _mix(given, second, weight), known and also_known
        return {"teacher": given, "teacher_known": torch.tensor(known)}

    def _mixed(self, index: int, other: int, weight: float) -> Tensor:
        return mix_waveforms(self._waveform(index), self._waveform(other), weight)

    def _waveform(self, index: int) -> Tensor:
        if self._kept is None:
            return read_audio(self.manifest.entries[index].path)
        if index not in self._kept:
            self._kept[index] = read_audio(self.manifest.entries[index].path)
        return self._kept[index]

    def _log_mels(self, index: int) -> Tensor:
        if self.cache is None:
            return self._features(self._waveform(index))
        return self.cache.get(self.manifest.entries[index].path, lambda: self._features(self._waveform(index)))

    def _features(self, waveform: Tensor) -> Tensor:
        # (T, F), padded or cut; mean 0 and std 0.5 leave values as they are, since masks come before normalisation.
        n_frames = self.statistics.n_frames
        return ast_features([waveform], n_frames=n_frames, mean=0.0, std=0.5, n_mels=self.n_mels).values[0]


def _mix(first: Tensor, second: Tensor, weight: float) -> Tensor:
    return mix_targets(first[None], second[None], torch.tensor([weight]))[0]
