#!/usr/bin/env bash
# The coordinator under load (coordinator_load.cc): job starts, submissions and memory at several
# lengths of the queue and 1,200 starts per second, then with jobs so short that the coordinator
# is the limit, and a restart under load. Five minutes. Arguments are passed to every run, such as
# --seconds 5.
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
  echo "== $* (load average $(cut -d ' ' -f 1 /proc/loadavg))"
  rm -rf "$scratch/data"
  mkdir "$scratch/data"
  build/release/bin/coordinator_load "$@" --coordinator build/release/bin/sinkforge-coordinator \
    --data-dir "$scratch/data"
}
for queue in 1000 3000 10000 30000; do run starts --queue "$queue" "$@"; done
run starts --job-milliseconds 100 "$@"
run restart "$@"
