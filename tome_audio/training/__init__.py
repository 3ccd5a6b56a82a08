"""Training on plain tensors and callables: a loop, its optimiser, augmentation and presets that were tried."""
