#!/usr/bin/env bash
# Everything that needs a GPU, in one command each:
#
#   tests/gpu/run.sh check OUT --text FILE   conformance of ops and whole models, training in both
#                                            precisions, kill -9 and resume, CUDA graphs,
#                                            compute-sanitizer
#   tests/gpu/run.sh bench OUT --text FILE   attention and model against PyTorch on the same card
#   tests/gpu/run.sh train OUT --text FILE   three variants, with and without the loss, 80 s each
#
# Needs a C++ compiler, CUDA, CMake, and for `bench` a python3 with PyTorch. FILE is a text of some
# megabytes; its last 256 KiB are held back for validation. Tables are written into the folder OUT;
# exit status 0 only if all of it passed.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
usage() { sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

[[ $# -ge 2 ]] || usage
command="$1" out="$2" text=""
shift 2
while [[ $# -gt 0 ]]; do
  case "$1" in
    --text) text="${2:?--text needs a file}"; shift 2 ;;
    *) usage ;;
  esac
done
[[ -f "$text" ]] || { echo "--text: '$text' is not a file" >&2; exit 2; }
mkdir -p "$out"
out="$(cd "$out" && pwd)"
build="${BUILD_DIR:-$here/../../build/gpu}"
failures=0

# Runs a part, keeps its log, and goes on whatever happens: a failed part must not cost the others.
part() {
  local name="$1" begin="$SECONDS" status
  shift
  echo "== $name"
  # Not `"$@" || ...`: in such a list a function would go on after a command of its that failed.
  set +e
  (set -e; "$@") > "$out/$name.log" 2>&1
  status=$?
  set -e
  echo "$name,$status,$((SECONDS - begin))" >> "$out/parts.csv"
  tail -n 12 "$out/$name.log"
  if [[ "$status" != 0 ]]; then
    echo "== $name FAILED ($status); see $name.log"
    failures=$((failures + 1))
  fi
}

build() {
  cmake -S "$here" -B "$build" -DCMAKE_BUILD_TYPE=Release
  cmake --build "$build" -j "$(nproc)"
}

split_text() {
  head -c -262144 "$text" > "$out/train.txt"
  tail -c 262144 "$text" > "$out/validation.txt"
}

train() { "$build/gpu_train" text="$out/train.txt" "$@"; }

# d4 for 200 steps: three seeds in float32 give the spread that the mixed precision must stay in.
curves() {
  for seed in 1 2 3; do
    train precision=float32 seed="$seed" coefficient=1e-3 curve="$out/d4-float32-seed$seed.csv"
    train precision=mixed seed="$seed" coefficient=1e-3 curve="$out/d4-mixed-seed$seed.csv"
  done
  python3 "$here/compare_curves.py" "$out"
}

# A run that kills itself after step 50 goes on from step 40, and ends with the bits of one that was
# not killed.
resume() {
  local common=(steps=80 checkpoint_every=20 coefficient=1e-3)
  rm -f "$out"/whole.bin "$out"/killed.bin
  train "${common[@]}" curve="$out/whole.csv" checkpoint="$out/whole.bin"
  local status=0
  local killed="$out/killed.bin"
  train "${common[@]}" curve="$out/killed.csv" checkpoint="$killed" kill_after=50 || status=$?
  if [[ "$status" != 137 ]]; then
    echo "the run was to die of SIGKILL, but ended with $status"
    return 1
  fi
  train "${common[@]}" curve="$out/resumed.csv" checkpoint="$killed" resume="$killed"
  cmp "$out/whole.bin" "$killed"
  echo "the resumed run has the same bits"
}

# With CUDA graphs a run has the bits that it has without them, and nothing refuses them. Seven rows
# leave a smaller batch at the end of the evaluation.
graphs() {
  local mode
  for mode in off on; do
    rm -f "$out/graphs-$mode.bin"
    train steps=60 rows=7 micro_steps=2 coefficient=1e-3 validation="$out/validation.txt" \
      graphs="$mode" curve="$out/graphs-$mode.csv" checkpoint="$out/graphs-$mode.bin" \
      2>&1 | tee "$out/graphs-$mode.log"
  done
  if grep "CUDA graphs are not used" "$out/graphs-on.log"; then return 1; fi
  cmp "$out/graphs-off.bin" "$out/graphs-on.bin"
  echo "the run with CUDA graphs has the same bits"
}

# The kernels of compute capability 9.0 run on exactly that one.
is_hopper() { nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | grep -qx 9.0; }

bench_attention() {
  "$build/attention_bench" kernels=tensor_cores
  if is_hopper; then
    "$build/attention_bench" kernels=hopper | tail -n +3  # header and product are there already
  else
    echo "NOT RUN kernels=hopper: the card is not of compute capability 9.0"
  fi
}

sanitize() {
  for tool in memcheck racecheck synccheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/device_conformance" _T70_
  done
}

# The table's line of a run of 15 steps: name, depth, vocabulary, rows, sequence, other arguments.
model_line() {
  local name="$1" depth="$2" vocab="$3" rows="$4" sequence="$5"
  shift 5
  train depth="$depth" vocab="$vocab" rows="$rows" sequence="$sequence" steps=15 gate_init=0.02 \
    curve="$out/$name.csv" "$@" > "$out/$name.log"
  python3 "$here/compare_curves.py" --speed "$out" "$name" "$depth" "$vocab" "$rows" "$sequence"
}

# Ours with every path of attention that the card has, without and with CUDA graphs; a d4 of short
# rows shows those where launches weigh most. A peak is what the tensors of the run take; model FLOP
# utilisation is of 989 TFLOP/s (compare_curves.py).
bench_model() {
  local depth rows=8 kernels coefficient graphs paths=(tensor_cores)
  if is_hopper; then paths+=(hopper); fi
  echo "who,what,tokens_per_second,mfu_percent,peak_gib"
  for graphs in off on; do
    model_line "d4-short-graphs-$graphs" 4 256 8 256 head_dim=64 coefficient=1e-3 graphs="$graphs"
  done
  for depth in 12 20; do
    for kernels in "${paths[@]}"; do
      for coefficient in 0 1e-3; do
        model_line "d$depth-$coefficient-$kernels" "$depth" 65536 "$rows" 2048 head_dim=128 \
          coefficient="$coefficient" kernels="$kernels"
      done
      model_line "d$depth-1e-3-$kernels-graphs" "$depth" 65536 "$rows" 2048 head_dim=128 \
        coefficient=1e-3 kernels="$kernels" graphs=on
    done
    python3 "$here/peers.py" model depth="$depth" rows="$rows" || return 1
  done
}

rm -f "$out/parts.csv"
part build build
[[ "$failures" == 0 ]] || exit 1
nvidia-smi --query-gpu=name,driver_version --format=csv > "$out/card.csv" || true
split_text
case "$command" in
  check)
    part conformance "$build/device_conformance"
    part curves curves
    part resume resume
    part graphs graphs
    part sanitize sanitize
    ;;
  bench)
    part attention bench_attention
    part attention_peers python3 "$here/peers.py" attention
    part model bench_model
    ;;
  train)
    for attention in vanilla sink gated; do
      for coefficient in 0 1e-3; do
        name="d12-$attention-$coefficient"
        part "$name" train depth=12 head_dim=128 rows=16 sequence=2048 steps=100000 seconds=72 \
          attention="$attention" coefficient="$coefficient" \
          validation="$out/validation.txt" curve="$out/$name-curve.csv"
      done
    done
    python3 "$here/compare_curves.py" --ends "$out" | tee "$out/train.csv"
    ;;
  *) usage ;;
esac
echo "== $failures parts failed; tables are in $out"
[[ "$failures" == 0 ]]
