#!/usr/bin/env bash
# Speech Commands. Stages: 0 download, 1 manifest, 2 teacher and its logits, 3 train, 4 evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus=speechcommands config=ast_kd r='0,4,8,12,2x,3x'
own=labels labels=35 smoke_own=labels=12
source "$here/../recipe.sh"   # reads the options, --smoke among them; stage 0

clips=$out/data-$labels
run_stage 1 tome-audio manifest --data "$data" --out "$clips" --corpus.name speechcommands --corpus.n_labels "$labels" --corpus.made "$clips/silence"
train_and_score "$labels" "$@"   # stages 2 to 5
