#!/usr/bin/env bash
# Starts vit_jax.main with the given arguments on this worker, in the background
# and in a session that outlives the connection. Called by launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ -e run.pid ]] && kill -0 "$(cat run.pid)" 2> /dev/null; then
  echo "error: a run is already in progress on $(hostname)" >&2
  exit 1
fi
rm -f run.exit
# shellcheck disable=SC2016
nohup setsid bash -c '"$@"; echo $? > run.exit' run \
  .venv/bin/python -m vit_jax.main "$@" > run.log 2>&1 < /dev/null &
echo $! > run.pid
