#!/usr/bin/env bash
# Gives a TPU back, which ends its cost; what lies on its disks is lost.
#
#   scripts/tpu/delete.sh NAME
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'delete.sh NAME' 1 "$@"
run gcloud compute tpus queued-resources delete "${names[0]}" "${place[@]}" \
  --force --quiet
