#!/usr/bin/env bash
# Free Spoken Digit Dataset. Stages: 0 download, 1 manifest, 2 teacher and its logits, 3 train, 4 evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus=fsdd config=small_kd r='0,2x,3x'
own=held-out held_out=upstream smoke_own=held_out=upstream
source "$here/../recipe.sh"   # reads the options, --smoke among them; stage 0

clips=$out/data-$held_out
run_stage 1 tome-audio manifest --data "$data" --out "$clips" --corpus.name fsdd --corpus.held_out "$held_out"
train_and_score "$held_out" "$@"   # stages 2 to 5
