"""Corpora made by code."""
