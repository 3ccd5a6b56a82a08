"""The page of `tome-audio serve`: hear a clip with and without merging, in a browser."""
