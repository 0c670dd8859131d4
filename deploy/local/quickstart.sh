#!/usr/bin/env bash
# From a fresh clone to a trained model: installs the packages, builds a release, starts a
# coordinator and a worker on this machine, and trains the same small model twice on real text,
# without and with the head-balance loss.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root"

# Where `sinkforge local up` keeps its state; jobs may read what is in its data folder.
state="${XDG_STATE_HOME:-${HOME:?HOME is not set}/.local/state}/sinkforge/local"
data="${SINKFORGE_DATA:-$state/data}"
bin="$root/build/release/bin"

usage() {
  cat <<USAGE
Usage: deploy/local/quickstart.sh [--prepare]

Installs Debian packages (with sudo where you are not root), builds SinkForge in build/release,
starts a coordinator and a worker on this machine, and submits deploy/jobs/quickstart.yaml twice:
without and with the head-balance loss. About ten minutes the first time, on two cores; four of
them are training. Stop everything with: build/release/bin/sinkforge local down

  --prepare  install, build and make the text, but start nothing
  --help     this text

The text is the King James Bible from Debian's bible-kjv-text. It goes to
$data/kjv; SINKFORGE_DATA chooses another folder.
USAGE
}

prepare_only=no
case "${1:-}" in
  "") ;;
  --prepare) prepare_only=yes ;;
  -h | --help) usage; exit 0 ;;
  *) echo "quickstart.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
esac

say() { echo "== $*"; }

# A build folder that is there configures itself again when it must.
build() {
  export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
  [[ -f build/release/build.ninja ]] || cmake --preset release
  cmake --build --preset release --target \
    sinkforge sinkforge-coordinator sinkforge-worker sinkforge-trainer
}

# One verse a line, without its number. The last twentieth of each hundred lines is for validation,
# so that both texts are of the same kind.
make_text() {
  [[ -s "$data/kjv/train.txt" && -s "$data/kjv/validation.txt" ]] && return
  mkdir -p "$data/kjv"
  local temporary
  temporary="$(mktemp -d "$data/kjv/new.XXXXXX")"
  bible -f 'Gen1:1-Rev22:21' | sed 's/^[^ ]* //' >"$temporary/all.txt"
  local lines
  lines="$(wc -l <"$temporary/all.txt")"
  if [[ "$lines" -lt 31000 ]]; then
    echo "quickstart.sh: bible wrote $lines lines, not 31,102; is bible-kjv-text whole?" >&2
    rm -r "$temporary"
    return 1
  fi
  awk -v folder="$temporary" '
    { print > (folder ((NR - 1) % 100 < 95 ? "/train.txt" : "/validation.txt")) }' \
    "$temporary/all.txt"
  mv "$temporary/train.txt" "$temporary/validation.txt" "$data/kjv/"
  rm -r "$temporary"
}

say "packages"
deploy/local/install.sh build text
say "build"
build
say "text"
make_text
du -h "$data/kjv/train.txt" "$data/kjv/validation.txt"
say "ready after $SECONDS s"
[[ "$prepare_only" == no ]] || exit 0

say "coordinator and worker"
"$bin/sinkforge" local up --data-root "$data"
say "two jobs: head_balance.coefficient 0 and 1e-3"
# A name of its own, so that the table at the end is of this run alone.
"$bin/sinkforge" sweep deploy/jobs/quickstart.yaml --name "quickstart-$(date +%m%d-%H%M%S)" \
  --grid head_balance.coefficient=0,1e-3 --watch
say "where things are"
"$bin/sinkforge" local status
cat <<NEXT
Checkpoints and metrics of all jobs are in $state; the text is in
$data. Prometheus can scrape the two METRICS addresses above:
  prometheus --config.file=deploy/prometheus/prometheus.yml

Next, with PATH="$bin:\$PATH":
  sinkforge list                               the jobs
  sinkforge metrics JOB --series importance    how open each head was, step by step
  sinkforge events JOB                         what became of it, and why
  sinkforge checkpoints export JOB model.safetensors
  sinkforge submit deploy/jobs/quickstart.yaml --set model.attention=sink --watch
  sinkforge local down                         stops coordinator and worker
NEXT
say "all: $SECONDS s"
