"""The commands of `tome-audio sampleid`."""
