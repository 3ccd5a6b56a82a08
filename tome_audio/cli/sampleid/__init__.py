"""`tome-audio sampleid`: which record a song samples, and where."""
