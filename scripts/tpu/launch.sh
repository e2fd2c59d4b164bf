#!/usr/bin/env bash
# Starts a run on all workers of a TPU, in the background.
#
#   scripts/tpu/launch.sh NAME -- --config=configs/vit_l16.py \
#       --workdir=gs://BUCKET/RUN --config.data.dir=gs://BUCKET/tfds
#
# What stands behind `--` goes to vit_jax.main. The workers find each other. The
# log of each is ~/vit_jax/run.log on it; when the run ends, its exit code is in
# ~/vit_jax/run.exit. The same command again goes on from the last checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'launch.sh NAME -- ARGUMENTS' 1 "$@"
name=${names[0]}
((${#arguments[@]})) || die 'behind -- stand the arguments of vit_jax.main.'

on_workers "$name" all \
  "bash vit_jax/scripts/tpu/start_here.sh $(printf '%q ' "${arguments[@]}")"
