"""Figures: merged tokens over a spectrogram, and what merging trades."""
