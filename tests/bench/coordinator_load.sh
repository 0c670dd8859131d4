#!/usr/bin/env bash
# The coordinator under load (coordinator_load.cc): job starts per second at three lengths of the
# queue, submission latency, memory, and a restart under load. Some minutes on an idle machine.
# Arguments are passed to every run, such as --seconds 5.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root"
export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
{
  [[ -f build/release/build.ninja ]] || cmake --preset release
  cmake --build --preset release --target coordinator_load sinkforge-coordinator
} >&2
# A connection a worker, on both ends.
ulimit -n "$(ulimit -Hn)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
run() {
  mkdir "$scratch/$1"
  local name="$1" mode="$2"
  shift 2
  build/release/bin/coordinator_load "$mode" --coordinator build/release/bin/sinkforge-coordinator \
    --data-dir "$scratch/$name" "$@"
}
for queue in 1000 10000 80000; do run "starts-$queue" starts --queue "$queue" "$@"; done
run restart restart --slots 1 "$@"
