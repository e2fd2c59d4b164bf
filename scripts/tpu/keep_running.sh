#!/usr/bin/env bash
# Keeps a run going until it is finished, on TPUs that may be preempted.
#
#   scripts/tpu/keep_running.sh NAME TYPE [--spot] -- ARGUMENTS
#
# ARGUMENTS are those of launch.sh, with a --workdir on gs://. Creates the TPU,
# installs and launches. When the TPU is preempted, deletes it and starts again;
# the run resumes from its last checkpoint. Once the work directory holds the
# results, deletes the TPU.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'keep_running.sh NAME TYPE [--spot] -- ARGUMENTS' 2 "$@"
name=${names[0]} type=${names[1]}

MAX_FAILURES=5 # A worker may be restarted for maintenance.

workdir=
for argument in "${arguments[@]}"; do
  case $argument in --workdir=*) workdir=${argument#*=} ;; esac
done
[[ $workdir == gs://* ]] || die '--workdir=gs://... is missing after --'

options=("${place[@]}")
if $dry_run; then options+=(--dry-run); fi

finished() {
  gcloud storage ls "$workdir/results.json" > /dev/null 2>&1
}

state() {
  gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
    --format='value(state.state)' 2> /dev/null || echo NONE
}

create() {
  local spot_option=()
  if $spot; then spot_option=(--spot); fi
  "$here/create.sh" "$name" "$type" "${spot_option[@]}" "${options[@]}"
}

launch() {
  "$here/install.sh" "$name" "${options[@]}" &&
    "$here/launch.sh" "$name" "${options[@]}" -- "${arguments[@]}"
}

# The output of status_here.sh, or nothing if worker 0 is unreachable.
status() {
  on_workers "$name" 0 \
    'bash vit_jax/scripts/tpu/status_here.sh || echo absent' \
    2> /dev/null || true
}

if $dry_run; then
  echo "# Until $workdir/results.json exists:"
  create
  launch
  echo '# Every minute:'
  status
  echo '# When the TPU has been preempted, before the next start:'
  "$here/delete.sh" "$name" "${options[@]}"
  exit
fi

failures=0
until finished; do
  case $(state) in
    ACTIVE)
      case $(status) in
        absent | 'ended 0') launch || true ;; # 0: stopped by SIGTERM.
        ended*)
          sleep 120 # A preemption ends the run before it shows in the state.
          if [[ $(state) == ACTIVE ]]; then
            ((++failures < MAX_FAILURES)) ||
              die "the run has failed $failures times; see watch.sh $name."
            launch || true
          fi
          ;;
      esac
      ;;
    NONE) create || echo "$(date +%H:%M:%S) $name is not available yet" ;;
    FAILED | SUSPENDED)
      echo "$(date +%H:%M:%S) $name was preempted"
      "$here/delete.sh" "$name" "${options[@]}" || true
      ;;
  esac
  sleep 60
done
echo "finished: $workdir/results.json"
"$here/delete.sh" "$name" "${options[@]}"
