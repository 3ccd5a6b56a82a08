"""Training: a trainer for any task and any number of processes, a small loop over tensors in memory, presets.

A run that learns merged, beside its own unmerged answer, and is scored unmerged::

    apply_patch(model)
    distill = partial(distillation_loss, weight=0.1, multi_label=False)
    task = Classification(distillation=distill, teacher=UnmergedSelf(), best="accuracy")
    task = MergedTask(task, TargetBetween(1.0, 3.0), evaluate=0)
    settings = TrainerSettings(epochs=30, batch_size=32, precision="bf16", save_every=500)
    result = Trainer(task, model, TrainingData(train, valid), settings, "runs/one").run(resume=True)
    model.load_state_dict(read_weights(result.best_weights))

`fit` is the smaller loop of the demo: it needs no accelerate.
"""
