#!/usr/bin/env bash
# The whole chain on a few generated clips: train and sweep, look at the layers, classify a file, sweep a folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=runs/smoke
stage=0
stop_stage=3

usage() {
  echo "usage: run.sh [--out DIR] [--stage N] [--stop-stage N]   (stages 0 to 3)" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --out) out=$2 ;;
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
  "$@"
}

run_stage 0 tome-audio demo --config "$here/conf/smoke.yaml" --out "$out"
run_stage 1 tome-audio inspect --model "$out/model.safetensors" --r 8
run_stage 2 tome-audio classify "$out"/examples/*/*.wav --model "$out/model.safetensors" --r 8 --top-k 2
run_stage 3 tome-audio sweep --model "$out/model.safetensors" --data "$out/examples" --r '0,8,(8,-1)' --out "$out/sweep"
