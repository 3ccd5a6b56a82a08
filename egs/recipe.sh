# What the recipes of corpora share: their options, stage 0, and stages 2 to 5. run.sh sources it when it has set
#   here       its folder
#   corpus     as `tome-audio download --corpus` takes it
#   fetched    folder that the download holds the corpus in; '' for the download itself
#   config, r  defaults of --config and --r
#   own        name of its own option, with its default in the variable of that name (held-out: held_out)
#   smoke_own  what --smoke sets that option to
# Then data, out and the other options are set too, and "$@" is what followed --.
data='' out=runs/$corpus stage=0 stop_stage=5 teacher='' seed=0 train_r='' online='' smoke=''
results=$here/RESULTS.md called="run.sh $*"

usage() {
  echo "usage: run.sh [--data DIR] [--out DIR] [--$own X] [--config NAME] [--teacher NAME] [--seed N] [--r LIST]" >&2
  echo "              [--train-r R] [--online] [--stage N] [--stop-stage N] [--smoke] [-- OPTIONS OF tome-audio train]   (stages 0 to 5)" >&2
  exit 2
}

run_stage() {
  local number=$1
  shift
  if [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ]; then
    return 0
  fi
  echo "stage $number: $*"
  "$@" || [ $? -eq 1 ]   # 1: done, though some clips could not be used; each is named
}

while [ $# -gt 0 ]; do
  case $1 in
    --smoke) smoke=yes; shift; continue ;;
    --online) online=yes; shift; continue ;;
    --) shift; break ;;
  esac
  [ $# -ge 2 ] || usage
  case $1 in
    --data) data=$2 ;;
    --out) out=$2 ;;
    "--$own") printf -v "${own//-/_}" %s "$2" ;;
    --config) config=$2 ;;
    --teacher) teacher=$2 ;;
    --seed) seed=$2 ;;
    --r) r=$2 ;;
    --train-r) train_r=$2 ;;
    --stage) stage=$2 ;;
    --stop-stage) stop_stage=$2 ;;
    *) usage ;;
  esac
  shift 2
done

if [ -n "$smoke" ]; then   # generated clips laid out like the corpus, tiny models
  config=smoke r=0,2x results=$out/RESULTS.md
  printf -v "${own//-/_}" %s "$smoke_own"
  run_stage 0 tome-audio download --corpus "$corpus" --data "$out/download" --imitation
  data=$out/download/$corpus-imitation
elif [ -z "$data" ]; then
  run_stage 0 tome-audio download --corpus "$corpus" --data "$out/download"
  data=$out/download${fetched:+/$fetched}
fi
case $config in smoke) teacher=smoke_teacher ;; small*) teacher=${teacher:-teacher_small} ;; esac
teacher=${teacher:-teacher}

# Stages 2 to 5 for the clips in $clips: the teacher of this seed and what it says, the model, its scores. Takes the value
# of the recipe's own option, which names the folders, and what goes to `tome-audio train`.
train_and_score() {
  local value=$1 distill=() cached=() merged=() trained=''
  shift
  case $config in small* | scratch*) cached=(--clips.cache "$clips/features") ;; esac   # used for clips that are not mixed
  if [ -n "$train_r" ]; then
    merged=(--merge.r "$train_r" --merge.evaluate "$train_r") trained=-at$train_r
  fi
  local run=$out/$config-$value$trained-seed$seed teach=$out/$teacher-$value-seed$seed
  if grep -q '^  weight: 0' "$here/conf/$config.yaml"; then   # a weight of 1 learns from labels alone
    run_stage 2 tome-audio train --config "$here/conf/$teacher.yaml" --data "$clips" --out "$teach" --resume \
      --trainer.seed "$seed" "${cached[@]}"
    if [ -n "$online" ]; then
      distill=(--distill.model "$teach/model.safetensors")
    else
      run_stage 2 tome-audio teacher-logits --model "$teach/model.safetensors" --data "$clips" --split train --out "$teach/logits"
      distill=(--distill.logits "$teach/logits")
    fi
  fi
  run_stage 3 tome-audio train --config "$here/conf/$config.yaml" --data "$clips" --out "$run" --resume \
    --trainer.seed "$seed" "${cached[@]}" "${distill[@]}" "${merged[@]}" "$@"
  run_stage 4 tome-audio evaluate --model "$run/model.safetensors" --data "$clips" --r "$r" --out "$run/evaluate"
  run_stage 5 tome-audio results "$run/evaluate" --append "$results" --title "$config, $own ${value#"$own"}$trained, seed $seed" --command "$called"
}
