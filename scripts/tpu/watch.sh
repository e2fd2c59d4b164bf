#!/usr/bin/env bash
# Follows the log of a run. Worker 0 reports progress, the others only warnings.
#
#   scripts/tpu/watch.sh NAME [--worker=0]
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'watch.sh NAME [--worker=0]' 1 "$@"
on_workers "${names[0]}" "$worker" 'tail -n 100 -F vit_jax/run.log'
