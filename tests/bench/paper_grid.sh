#!/usr/bin/env bash
# The paper's grid in small, by the commands that a user types: {vanilla, sink, gated} attention x
# {none, cv, switch} head-balance loss x three seeds on the text of the quickstart, with a byte-pair
# vocabulary made from it. Prints the tables of the sweeps, of 27 runs of 300 steps each, with means
# and spread over the seeds.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
sinkforge="$root/build/release/bin/sinkforge"

usage() {
  cat <<'USAGE'
Usage: tests/bench/paper_grid.sh KJV [--set KEY=VALUE]...

  KJV    the folder with train.txt and validation.txt that deploy/local/quickstart.sh --prepare
         made (~/.local/state/sinkforge/local/data/kjv)
  --set  another setting of every run, such as head_balance.coefficient=1e-2

Starts a coordinator and a worker of its own in build/paper_grid and stops them at the end; the
jobs, their metrics and the tokenizer stay there.
USAGE
}

[[ "${1:-}" != -h && "${1:-}" != --help ]] || { usage; exit 0; }
text="${1:-}"
if [[ ! -s "$text/train.txt" || ! -s "$text/validation.txt" ]]; then
  echo "paper_grid.sh: '$text' has no train.txt and validation.txt" >&2
  usage >&2
  exit 2
fi
shift

# The local instance of this folder: not the one that the user may have.
export XDG_STATE_HOME="$root/build/paper_grid"
unset SINKFORGE_COORDINATOR
data="$XDG_STATE_HOME/sinkforge/local/data/grid"
mkdir -p "$data"
if [[ ! -d "$data/validation" ]]; then
  "$sinkforge" tokenizer train "$text/train.txt" --vocab-size 4096 --to "$data/tokenizer.json" \
    --force
  "$sinkforge" tokenize "$text/train.txt" --tokenizer "$data/tokenizer.json" --to "$data/train" \
    --force
  "$sinkforge" tokenize "$text/validation.txt" --tokenizer "$data/tokenizer.json" \
    --to "$data/validation"
fi

trap '"$sinkforge" local down' EXIT
"$sinkforge" local up --slots 2
run="grid-$(date +%m%d-%H%M%S)"
sweep() {
  local name="$run-$1" attention="$2"
  shift 2
  "$sinkforge" sweep "$root/tests/bench/paper_grid.yaml" --name "$name" \
    --grid model.attention="$attention" --grid head_balance.loss=none,cv,switch --seeds 1,2,3 \
    "$@" --watch
}
sweep heads vanilla,gated "$@"
# A sink of 0 in every head would leave them equal from the first step on.
sweep sink sink --set 'model.sink_init=[0, 8]' "$@"
