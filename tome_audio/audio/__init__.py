"""Reading audio files and turning waveforms into model input. Importing it does not import torchaudio."""

from tome_audio.audio.fbank import kaldi_fbank, mel_filters, window_and_shift
from tome_audio.audio.features import (
    AST_STATISTICS,
    AstFeatures,
    AstStatistics,
    Features,
    ast_features,
    normalise,
    pad_or_cut,
)
from tome_audio.audio.log_mel import MelScale, log_mel, standardise
from tome_audio.audio.reading import AudioError, audio_seconds, is_silent, read_audio
from tome_audio.audio.segments import segments
from tome_audio.audio.spectrum_facts import SPECTRUM_FACTS, SpectrumFacts, spectrum_facts
from tome_audio.audio.streaming import stream_audio
from tome_audio.audio.views import SpecViews, frequency_masks, time_masks, time_warp
from tome_audio.audio.waveform_augment import WaveformAugmentation, WaveformViews

__all__ = [
    "AST_STATISTICS",
    "SPECTRUM_FACTS",
    "AstFeatures",
    "AstStatistics",
    "AudioError",
    "Features",
    "MelScale",
    "SpecViews",
    "SpectrumFacts",
    "WaveformAugmentation",
    "WaveformViews",
    "ast_features",
    "audio_seconds",
    "frequency_masks",
    "is_silent",
    "kaldi_fbank",
    "log_mel",
    "mel_filters",
    "normalise",
    "pad_or_cut",
    "read_audio",
    "segments",
    "spectrum_facts",
    "standardise",
    "stream_audio",
    "time_masks",
    "time_warp",
    "window_and_shift",
]
