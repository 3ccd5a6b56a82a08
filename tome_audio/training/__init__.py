"""Training on plain tensors and callables: a loop, its optimiser and presets that were tried."""
