#!/usr/bin/env bash
# AudioSet. Stages: 0 download, 1 manifest, 2 teacher and its logits, 3 train, 4 evaluate over r, 5 append to RESULTS.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data='' out=runs/audioset stage=0 stop_stage=5 config=ast_kd teacher='' seed=0 r='0,16,40,64,2x,3x' smoke=''
train=balanced results=$here/RESULTS.md called="run.sh $*"

usage() {
  echo "usage: run.sh [--data DIR] [--out DIR] [--train X] [--config NAME] [--teacher NAME] [--seed N] [--r LIST]" >&2
  echo "              [--stage N] [--stop-stage N] [--smoke] [-- OPTIONS OF tome-audio train]   (stages 0 to 5)" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --smoke) smoke=yes; shift; continue ;;
    --) shift; break ;;
  esac
  [ $# -ge 2 ] || usage
  case $1 in
    --data) data=$2 ;;
    --out) out=$2 ;;
    --train) train=$2 ;;
    --config) config=$2 ;;
    --teacher) teacher=$2 ;;
    --seed) seed=$2 ;;
    --r) r=$2 ;;
    --stage) stage=$2 ;;
    --stop-stage) stop_stage=$2 ;;
    *) usage ;;
  esac
  shift 2
done

run_stage() {
  local number=$1
  shift
  if [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ]; then
    return 0
  fi
  echo "stage $number: $*"
  "$@" || [ $? -eq 1 ]   # 1: done, though some clips could not be used; each is named
}

if [ -n "$smoke" ]; then   # generated clips laid out like the corpus, tiny models
  config=smoke r=0,2x results=$out/RESULTS.md train=balanced
  run_stage 0 tome-audio download --corpus audioset --data "$out/download" --imitation
  data=$out/download/audioset-imitation
elif [ -z "$data" ]; then
  run_stage 0 tome-audio download --corpus audioset --data "$out/download"
  data=$out/download
fi
case $config in smoke) teacher=smoke_teacher ;; small*) teacher=${teacher:-teacher_small} ;; esac
teacher=${teacher:-teacher} distill=()
clips=$out/data-$train run=$out/$config-$train-seed$seed teach=$out/teacher-$train
run_stage 1 tome-audio manifest --data "$data" --out "$clips" --corpus.name audioset --corpus.train "$train"
if ! grep -q '^  weight: 1.0$' "$here/conf/$config.yaml"; then   # weight 1.0 learns from labels alone
  run_stage 2 tome-audio train --config "$here/conf/$teacher.yaml" --data "$clips" --out "$teach" --resume
  run_stage 2 tome-audio teacher-logits --model "$teach/model.safetensors" --data "$clips" --split train --out "$teach/logits"
  distill=(--distill.logits "$teach/logits")
fi
run_stage 3 tome-audio train --config "$here/conf/$config.yaml" --data "$clips" --out "$run" --resume \
  --trainer.seed "$seed" "${distill[@]}" "$@"
run_stage 4 tome-audio evaluate --model "$run/model.safetensors" --data "$clips" --r "$r" --out "$run/evaluate"
run_stage 5 tome-audio results "$run/evaluate" --append "$results" --title "$config, train $train, seed $seed" --command "$called"
