#!/usr/bin/env bash
# Stops a run, which saves a checkpoint on all workers and ends. It is enough to
# send SIGTERM to one worker.
#
#   scripts/tpu/stop.sh NAME
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'stop.sh NAME' 1 "$@"
on_workers "${names[0]}" 0 "pkill -TERM -P \$(cat vit_jax/run.pid)"
