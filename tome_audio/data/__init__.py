"""Clips on disk: manifests, their checks, splits and sampling, downloads, and what the rest of the package reads."""
