"""One file per family of models: how its blocks are wired. See `tome_audio.patch.registry` to add a family."""
