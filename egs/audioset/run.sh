#!/usr/bin/env bash
# AudioSet. Stages: 0 download, 1 manifest, 2 teacher and its logits, 3 train, 4 evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus=audioset config=ast_kd r='0,16,40,64,2x,3x'
own=train train=balanced smoke_own=train=balanced
source "$here/../recipe.sh"   # reads the options, --smoke among them; stage 0

clips=$out/data-$train
run_stage 1 tome-audio manifest --data "$data" --out "$clips" --corpus.name audioset --corpus.train "$train"
train_and_score "$train" "$@"   # stages 2 to 5
