#!/usr/bin/env bash
# The table of a recipe: several configs, trained whole and merged, over several seeds; appended to its RESULTS.md.
#   bash egs/table.sh RECIPE TITLE "CONFIGS" "SEEDS" "R TO TRAIN AT, 0 FOR NONE" [options of the recipe's run.sh]
# A CNN has nothing to merge: configs that begin with teacher or end in cnn are trained once and scored as they are.
set -euo pipefail
if [ $# -lt 5 ]; then
  echo 'usage: table.sh RECIPE TITLE "CONFIGS" "SEEDS" "TRAIN R" [options of run.sh]' >&2
  exit 2
fi
called=$(sed 's/--data [^ ]*/--data DIR/' <<< "bash egs/table.sh $1 '$2' '$3' '$4' '$5' ${*:6}")
recipe=$(cd "$(dirname "$0")/$1" && pwd) title=$2 configs=$3 seeds=$4 train_rs=$5
shift 5
runs=()
for config in $configs; do
  for train_r in $train_rs; do
    own=()
    case $config in
      teacher* | *cnn) if [ "$train_r" != "${train_rs%% *}" ]; then continue; fi; own=(--r unpatched) ;;
      *) if [ "$train_r" != 0 ]; then own=(--train-r "$train_r"); fi ;;
    esac
    for seed in $seeds; do
      words=(--config "$config" --seed "$seed" "$@" "${own[@]}")
      run=$(bash "$recipe/run.sh" "${words[@]}" --stop-stage 4 | tee /dev/stderr | sed -n 's/^stage 4:.* --out //p')
      runs+=("$run")
    done
  done
done
tome-audio results "${runs[@]}" --append "$recipe/RESULTS.md" --title "$title" --command "$called"
