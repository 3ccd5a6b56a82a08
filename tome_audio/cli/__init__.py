"""The command line `tome-audio`: one file per command."""
