#!/usr/bin/env bash
# Sample identification. Stages: 0 generate a world, 3 train, 4 index and evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
corpus='' config=small r=0,2x,3x out=runs/sample_id
own='world mode material audio model' world='' mode=retrieval material='' audio='' model='' smoke_own='world='
source "$here/../recipe.sh"   # reads the options, --smoke among them

case $mode in
  retrieval) prefix='' plain=full ;;
  closed-set) prefix=closed_set_ plain=closed_set ;;
  *) echo "run.sh: --mode $mode is not one of retrieval, closed-set" >&2; exit 2 ;;
esac
if [ -n "$material" ]; then plain=clips; fi
case $config in smoke) world=${world:-${prefix}smoke} ;; *) world=${world:-$plain} ;; esac
if [ -z "$data" ]; then
  data=$out/world-$world-seed$seed clips=()
  if [ -n "$material" ]; then clips=(--material "$material"); fi
  run_stage 0 tome-audio sampleid generate "$data" --config "$here/conf/world_$world.yaml" --seed "$seed" "${clips[@]}"
fi

given=() merged=() trained=${material:+-clips}   # songs of clips are another task, in a folder of its own
if [ -n "$audio" ]; then given=(--audio "$audio"); fi
if [ -n "$train_r" ]; then merged=(--merge.r "$train_r" --merge.evaluate "$train_r") trained=$trained-at$train_r; fi
run=$out/$prefix$config$trained-seed$seed
if [ "$mode" = closed-set ]; then
  run_stage 3 tome-audio sampleid closed-set --config "$here/conf/closed_set_$config.yaml" --data "$data" --out "$run" \
    --r "$r" --seed "$seed" --trainer.seed "$seed" --resume "${given[@]}" "${merged[@]}" "$@"
  run_stage 5 tome-audio results "$run"/evaluate-* --append "$results" --title "closed set, $config$trained, seed $seed" --command "$called"
  exit
fi

if [ -z "$model" ]; then
  run_stage 3 tome-audio sampleid train --config "$here/conf/$config.yaml" --data "$data" --out "$run" --resume \
    --trainer.seed "$seed" --material.cache "$data/spectrograms" "${merged[@]}" "$@"
  model=$run/model.safetensors
else
  run=$out/$(basename "${model%.*}")-seed$seed   # a checkpoint as it is: no stage 3
fi
threshold=(--threshold_part valid)
if [ -n "$audio" ]; then threshold=(); fi   # tables of records alone: no songs without a sample
run_stage 4 tome-audio sampleid evaluate --config "$here/conf/evaluate.yaml" --model "$model" --data "$data" --r "$r" \
  "${threshold[@]}" "${given[@]}" --out "$run/evaluate"
run_stage 5 tome-audio results "$run/evaluate" --append "$results" --title "$(basename "$run")" --command "$called"
