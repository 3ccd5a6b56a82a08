"""Procedural songs with stems, and songs that sample other songs with the truth about what they sample."""
