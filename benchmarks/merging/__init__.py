"""Other ways to merge, each from its description: scores of pairs, ways to choose them, ways to combine tokens."""
