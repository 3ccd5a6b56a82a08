#!/usr/bin/env bash
# ESC-50. Stages: 0 download, 1 manifest, 2 teacher and its logits, 3 train, 4 evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus=esc50 config=ast_kd r='0,16,32,48,2x,3x'
own=fold fold=1 smoke_own=fold=1
source "$here/../recipe.sh"   # reads the options, --smoke among them; stage 0

clips=$out/data-$fold
run_stage 1 tome-audio manifest --data "$data" --out "$clips" --corpus.name esc50 --corpus.fold "$fold"
train_and_score "fold$fold" "$@"   # stages 2 to 5
