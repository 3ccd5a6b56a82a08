"""Commands of sample identification."""
