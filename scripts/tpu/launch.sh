#!/usr/bin/env bash
# Starts a run on all workers of a TPU, in the background.
#
#   scripts/tpu/launch.sh NAME -- --config=configs/vit_l16.py \
#       --workdir=gs://BUCKET/RUN --config.data.dir=gs://BUCKET/tfds
#
# Arguments after `--` are passed to vit_jax.main. The workers find each other.
# Each worker writes its log to ~/vit_jax/run.log and its exit code to
# ~/vit_jax/run.exit. The same command resumes from the last checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'launch.sh NAME -- ARGUMENTS' 1 "$@"
name=${names[0]}
((${#arguments[@]})) || die 'the arguments of vit_jax.main are missing after --'

on_workers "$name" all \
  "bash vit_jax/scripts/tpu/start_here.sh $(printf '%q ' "${arguments[@]}")"
