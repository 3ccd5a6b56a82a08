# What the recipes of corpora share: their options, stage 0, and stages 2 to 5. run.sh sources it when it has set
#   here       its folder
#   corpus     as `tome-audio download --corpus` takes it; empty where the recipe has a stage 0 of its own
#   config, r  defaults of --config and --r
#   own        names of its own options, with defaults in the variables of these names (held-out: held_out); the first
#              goes into the names of folders
#   smoke_own  what --smoke sets them to: labels=12
#   out        default of --out, where it is not runs/$corpus
# Then data, out and the other options are set too, and "$@" is what followed --.
data='' out=${out:-runs/$corpus} stage=0 stop_stage=5 teacher='' seed=0 train_r='' online='' smoke=''
results=$here/RESULTS.md called="run.sh $*"

usage() {
  echo "usage: run.sh [--data DIR] [--out DIR]$(printf ' [--%s X]' $own) [--config NAME] [--teacher NAME] [--seed N] [--r LIST]" >&2
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
    --config) config=$2 ;;
    --teacher) teacher=$2 ;;
    --seed) seed=$2 ;;
    --r) r=$2 ;;
    --train-r) train_r=$2 ;;
    --stage) stage=$2 ;;
    --stop-stage) stop_stage=$2 ;;
    *)
      name=${1#--}
      case " $own " in *" $name "*) printf -v "${name//-/_}" %s "$2" ;; *) usage ;; esac ;;
  esac
  shift 2
done

if [ -n "$smoke" ]; then   # tiny models
  config=smoke r=0,2x results=$out/RESULTS.md
  for pair in $smoke_own; do printf -v "${pair%%=*}" %s "${pair#*=}"; done
fi
if [ -n "$smoke" ] && [ -n "$corpus" ]; then   # generated clips laid out like the corpus
  run_stage 0 tome-audio download --corpus "$corpus" --data "$out/download" --imitation
  data=$out/download/$corpus-imitation
elif [ -z "$data" ] && [ -n "$corpus" ]; then
  run_stage 0 tome-audio download --corpus "$corpus" --data "$out/download"
  case $corpus in   # the folder that the download holds the corpus in
    speechcommands) data=$out/download/speech_commands_v0.02 ;;
    esc50) data=$out/download/ESC-50 ;;
    audioset) data=$out/download ;;
    *) data=$out/download/$corpus ;;
  esac
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
  run_stage 5 tome-audio results "$run/evaluate" --append "$results" --title "$config, ${own%% *} ${value#"${own%% *}"}$trained, seed $seed" --command "$called"
}
