#!/usr/bin/env bash
# The benchmarks on a GPU: AST base, 1024 frames, batch 64, bfloat16. Writes runs/gpu.json and runs/gpu-compiled.json,
# then the tables of benchmarks/results. Run it from anywhere; PYTHON says which Python has the package and its extras.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
BATCH=${BATCH:-64}
mkdir -p runs

bench() {
  "$PYTHON" -m pytest "$@" --benchmark-only --capture=no --benchmark-columns=median,iqr,rounds \
    --device cuda --models ast_base-1024 --dtype bfloat16 --r 64,94 --batch "$BATCH"
}

methods=unpatched,merged,merged-unfused,merged-random,topk-class,random-drop,stride-16
bench benchmarks/test_{throughput,end_to_end,size_bias,merge_overhead,training_step,memory}.py \
  --methods "$methods" --benchmark-json=runs/gpu.json
bench benchmarks/test_{throughput,end_to_end}.py \
  --methods unpatched,merged --compile --benchmark-json=runs/gpu-compiled.json
"$PYTHON" -m tome_audio.cli.main bench-report runs/gpu.json runs/gpu-compiled.json --out benchmarks/results
