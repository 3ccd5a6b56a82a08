#!/usr/bin/env bash
# ESC-50. Stages: 0 download, 1 manifest, 2 teacher and its logits, 3 train, 4 evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus=esc50 fetched=ESC-50 config=ast_kd r='0,16,32,48,2x,3x'
own=fold fold=1 smoke_own=1
source "$here/../recipe.sh"   # reads the options, --smoke among them; stage 0

clips=$out/data-$fold run=$out/$config-$fold-seed$seed teach=$out/teacher-$fold
run_stage 1 tome-audio manifest --data "$data" --out "$clips" --corpus.name esc50 --corpus.fold "$fold"
if ! grep -q '^  weight: 1.0$' "$here/conf/$config.yaml"; then   # weight 1.0 learns from labels alone
  run_stage 2 tome-audio train --config "$here/conf/$teacher.yaml" --data "$clips" --out "$teach" --resume
  run_stage 2 tome-audio teacher-logits --model "$teach/model.safetensors" --data "$clips" --split train --out "$teach/logits"
  distill=(--distill.logits "$teach/logits")
fi
run_stage 3 tome-audio train --config "$here/conf/$config.yaml" --data "$clips" --out "$run" --resume \
  --trainer.seed "$seed" "${distill[@]}" "$@"
run_stage 4 tome-audio evaluate --model "$run/model.safetensors" --data "$clips" --r "$r" --out "$run/evaluate"
run_stage 5 tome-audio results "$run/evaluate" --append "$results" --title "$config, fold $fold, seed $seed" --command "$called"
