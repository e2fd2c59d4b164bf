#!/usr/bin/env bash
# Prints the state of the run on this worker: `running`, `ended CODE`, or
# `absent` if it has not been started since the worker came up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ -e run.exit ]]; then
  echo "ended $(cat run.exit)"
elif [[ -e run.pid ]] && kill -0 "$(cat run.pid)" 2> /dev/null; then
  echo running
else
  echo absent
fi
