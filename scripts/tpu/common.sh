# What the scripts of this folder share; they source it.
#
# Options of all of them, anywhere before `--`:
#   --zone=ZONE        by default $TPU_ZONE, else that of gcloud's settings
#   --project=PROJECT  by default $TPU_PROJECT, else that of gcloud's settings
#   --dry-run          print the commands that would run, and run none
# shellcheck shell=bash
# shellcheck disable=SC2034

set -eo pipefail # Without -u: empty arrays are unset to bash 3, of macOS.

dry_run=false
spot=false
worker=0
place=()     # --zone and --project, for every command of gcloud.
names=()     # What stands before `--` and is no option.
arguments=() # What stands behind it.

die() {
  echo "error: $*" >&2
  exit 1
}

# parse USAGE COUNT "$@": sets the variables above; COUNT names are expected.
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

# run COMMAND...: runs it, or prints it in a dry run.
run() {
  if $dry_run; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# on_workers NAME WORKER COMMAND: runs a line of shell there; WORKER may be all.
on_workers() {
  run gcloud compute tpus tpu-vm ssh "$1" "${place[@]}" --worker="$2" \
    --command="$3"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
