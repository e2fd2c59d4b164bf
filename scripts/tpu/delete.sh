#!/usr/bin/env bash
# Deletes a TPU, which ends its billing. Files on its disks are lost.
#
#   scripts/tpu/delete.sh NAME
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'delete.sh NAME' 1 "$@"
run gcloud compute tpus queued-resources delete "${names[0]}" "${place[@]}" \
  --force --quiet
