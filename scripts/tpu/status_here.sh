#!/usr/bin/env bash
# Runs on a worker: says whether its run is `running`, has `ended CODE`, or was
# never started since the worker is up (`absent`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ -e run.exit ]]; then
  echo "ended $(cat run.exit)"
elif [[ -e run.pid ]] && kill -0 "$(cat run.pid)" 2> /dev/null; then
  echo running
else
  echo absent
fi
