#!/usr/bin/env bash
# Requests a Cloud TPU, one VM or a pod slice, and waits until it is active.
#
#   scripts/tpu/create.sh NAME TYPE [--spot]
#
# TYPE is an accelerator type such as v4-32, v5litepod-16 or v6e-8. With --spot,
# it is cheaper but may be preempted at any time; keep_running.sh handles that.
# TPU_RUNTIME overrides the VM image, which otherwise depends on the type.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'create.sh NAME TYPE [--spot]' 2 "$@"
name=${names[0]} type=${names[1]}

case $type in
  v5litepod-*) image=v2-alpha-tpuv5-lite ;;
  v5p-*) image=v2-alpha-tpuv5 ;;
  v6e-*) image=v2-alpha-tpuv6e ;;
  *) image=tpu-ubuntu2204-base ;;
esac
options=()
if $spot; then options+=(--spot); fi

run gcloud compute tpus queued-resources create "$name" "${place[@]}" \
  --node-id="$name" --accelerator-type="$type" \
  --runtime-version="${TPU_RUNTIME:-$image}" "${options[@]}"

state() {
  run gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
    --format='value(state.state)'
}

if $dry_run; then
  state
  exit
fi
while now=$(state) && [[ $now != ACTIVE ]]; do
  echo "$(date +%H:%M:%S) $name is $now"
  case $now in
    FAILED | SUSPENDED) die "$name is $now; delete it and request it again." ;;
  esac
  sleep 30
done
echo "$name is active"
