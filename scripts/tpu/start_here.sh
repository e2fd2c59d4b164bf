#!/usr/bin/env bash
# Runs on a worker, where launch.sh calls it: starts vit_jax.main with these
# arguments in the background, in a session that outlives the connection.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ -e run.pid ]] && kill -0 "$(cat run.pid)" 2> /dev/null; then
  echo "error: a run is under way on $(hostname) already" >&2
  exit 1
fi
rm -f run.exit
# shellcheck disable=SC2016
nohup setsid bash -c '"$@"; echo $? > run.exit' run \
  .venv/bin/python -m vit_jax.main "$@" > run.log 2>&1 < /dev/null &
echo $! > run.pid
