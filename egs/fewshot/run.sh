#!/usr/bin/env bash
# Few-shot. Stages: 0 download, 1 manifest, 2 an encoder to start from, 3 train, 4 evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus=esc50 config=plain r=unpatched out=runs/fewshot
own='corpus classes add k-shot n-query n-tasks classifier' classes='' add='' k_shot='' n_query='' n_tasks=10000 classifier=own
smoke_own='corpus=fsdd k_shot=2 n_query=2 n_tasks=50'
source "$here/../recipe.sh"   # reads the options, --smoke among them; stage 0

clips=$out/data-$corpus named=() split=() preset=() start=() trained='' n_way=5
case $corpus in esc50 | fsdd | speechcommands) named=(--corpus.name "$corpus") ;; esac
if [ -n "$add" ]; then named+=(--add "$add"); fi
if [ "$config" = smoke ]; then
  split=(--classes.n_valid 3 --classes.n_test 3) n_way=3
elif [ -n "$classes" ]; then
  split=(--classes.split "$classes")   # without --classes all parts have the same classes
fi
case $config in   # what the presets are for
  plain | enriched | attention | contrastive_* | augmented_* | relation)
    if [ -f "$here/presets/$corpus.yaml" ]; then preset=(--config "$here/presets/$corpus.yaml"); fi ;;
  metaaudio | wide) k_shot=${k_shot:-1} n_query=${n_query:-1} ;;
esac
k_shot=${k_shot:-5} n_query=${n_query:-5}
run_stage 1 tome-audio manifest --data "$data" --out "$clips" "${named[@]}"

if [ -f "$here/conf/pretrain_$config.yaml" ]; then
  learnt=$out/pretrain-$config-$corpus-seed$seed part=()
  if [ -n "$classes" ]; then part=(--classes "$classes" --part train); fi
  run_stage 2 tome-audio manifest --data "$clips" --out "$learnt/data" "${part[@]}"
  run_stage 2 tome-audio train --config "$here/conf/pretrain_$config.yaml" --data "$learnt/data" --out "$learnt" --resume \
    --trainer.seed "$seed" --clips.cache "$clips/features"
  start=(--encoder.start "$learnt/model.safetensors")
fi
if [ -n "$train_r" ]; then start+=(--merge.r "$train_r" --merge.evaluate "$train_r") trained=-at$train_r; fi
run=$out/$config-$corpus$trained-seed$seed
run_stage 3 tome-audio fewshot train --config "$here/conf/$config.yaml" "${preset[@]}" --data "$clips" --out "$run" --resume \
  --trainer.seed "$seed" "${split[@]}" "${start[@]}" "$@"
run_stage 4 tome-audio fewshot evaluate --model "$run/model.safetensors" --data "$clips" "${split[@]}" --r "$r" \
  --n_way "$n_way" --k_shot "$k_shot" --n_query "$n_query" --n_tasks "$n_tasks" --classifier "$classifier" \
  --out "$run/evaluate-${k_shot}shot"
run_stage 5 tome-audio results "$run/evaluate-${k_shot}shot" --append "$results" \
  --title "$config, $corpus$trained, $k_shot-shot, seed $seed" --command "$called"
