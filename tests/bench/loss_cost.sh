#!/usr/bin/env bash
# Builds and runs the benchmark of what the head-balance loss costs a step (loss_cost.cc): about two
# minutes on an idle machine of two cores. On a busy one it says "not resolved". Arguments are the
# benchmark's.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root"
export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
{
  [[ -f build/release/build.ninja ]] || cmake --preset release
  cmake --build --preset release --target loss_cost
} >&2
exec build/release/bin/loss_cost "$@"
