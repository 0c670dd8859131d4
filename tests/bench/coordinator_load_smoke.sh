#!/usr/bin/env bash
# Runs coordinator_load with a small fleet: PROGRAM COORDINATOR MODE.
set -euo pipefail
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
"$1" "$3" --coordinator "$2" --data-dir "$scratch" --workers 5 --slots 1 --queue 20 --seconds 1 \
  --job-milliseconds 50
