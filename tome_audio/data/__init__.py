"""Clips on disk, the generated corpus, and what both look like to the rest of the package."""
