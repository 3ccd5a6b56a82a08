"""Training: a trainer for any task and any number of processes, a small loop over tensors in memory, presets."""
