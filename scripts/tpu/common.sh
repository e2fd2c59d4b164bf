# Sourced by the other scripts in this folder.
#
# Common options, anywhere before `--`:
#   --zone=ZONE        default: $TPU_ZONE, then gcloud's configuration
#   --project=PROJECT  default: $TPU_PROJECT, then gcloud's configuration
#   --dry-run          print the commands instead of running them
# shellcheck shell=bash
# shellcheck disable=SC2034

set -eo pipefail # No -u: bash 3 (macOS) treats empty arrays as unset.

dry_run=false
spot=false
worker=0
place=()     # --zone and --project, for every gcloud command.
names=()     # Positional arguments before `--`.
arguments=() # Arguments after `--`.

die() {
  echo "error: $*" >&2
  exit 1
}

# parse USAGE COUNT "$@": sets the variables above; expects COUNT names.
parse() {
  local usage=$1 count=$2 zone=${TPU_ZONE:-} project=${TPU_PROJECT:-}
  shift 2
  while (($#)); do
    case $1 in
      --dry-run) dry_run=true ;;
      --spot) spot=true ;;
      --worker=*) worker=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --project=*) project=${1#*=} ;;
      --)
        shift
        arguments=("$@")
        break
        ;;
      -h | --help)
        echo "usage: $usage [--zone=ZONE] [--project=PROJECT] [--dry-run]"
        exit
        ;;
      -*) die "unknown option $1; usage: $usage" ;;
      *) names+=("$1") ;;
    esac
    shift
  done
  ((${#names[@]} == count)) || die "usage: $usage"
  [[ -z $zone ]] || place+=("--zone=$zone")
  [[ -z $project ]] || place+=("--project=$project")
}

# run COMMAND...: runs the command, or prints it in a dry run.
run() {
  if $dry_run; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# on_workers NAME WORKER COMMAND: runs a shell command on WORKER, or on all.
on_workers() {
  run gcloud compute tpus tpu-vm ssh "$1" "${place[@]}" --worker="$2" \
    --command="$3"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
