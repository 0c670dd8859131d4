#!/usr/bin/env bash
# Everything that needs a GPU, in one command each:
#
#   tests/gpu/run.sh check OUT --text FILE   conformance of ops and whole models, training in both
#                                            precisions, kill -9 and resume, CUDA graphs, NCCL,
#                                            compute-sanitizer
#   tests/gpu/run.sh bench OUT --text FILE   attention and model against PyTorch on the same card
#   tests/gpu/run.sh train OUT --text FILE   three variants, with and without the loss, 80 s each
#
# `--kernels hopper|tensor_cores|rows` names the attention that models train with (default: auto,
# what a job would take). Needs a C++ compiler, CUDA, CMake, and for `bench` a python3 with PyTorch.
# FILE is a text of some megabytes; its last 256 KiB are held back for validation. Tables are
# written into the folder OUT, and what they say of each demand into OUT/summary.md; exit status 0
# only if all of it passed.
set -euo pipefail
set -a  # parts run in shells of their own, and need the functions and variables below

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
usage() { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

[[ $# -ge 2 ]] || usage
command="$1" out="$2" text="" train_kernels=auto
shift 2
while [[ $# -gt 0 ]]; do
  case "$1" in
    --text) text="${2:?--text needs a file}"; shift 2 ;;
    --kernels) train_kernels="${2:?--kernels needs a name}"; shift 2 ;;
    *) usage ;;
  esac
done
[[ "$command" =~ ^(check|bench|train)$ ]] || usage
[[ "$train_kernels" =~ ^(auto|hopper|tensor_cores|rows)$ ]] || usage
[[ -f "$text" ]] || { echo "--text: '$text' is not a file" >&2; exit 2; }
mkdir -p "$out"
out="$(cd "$out" && pwd)"
build="${BUILD_DIR:-$here/../../build/gpu}"
# Seconds for all parts: what is slow shall cost its own part, not the tables of others.
limit=570
if [[ "$command" == check ]]; then limit=400; fi
failures=0
PATH+=:/usr/local/cuda/bin  # where compute-sanitizer is, if it is not found

# part NAME SECONDS COMMAND...: runs a part for so long at most, keeps its log, and goes on whatever
# happens: a part that fails or hangs must not cost the others.
part() {
  local name="$1" seconds="$2" begin="$SECONDS" status=0
  shift 2
  if ((limit - SECONDS < seconds)); then seconds=$((limit - SECONDS)); fi
  echo "== $name"
  if ((seconds > 0)); then
    timeout --kill-after=5 "$seconds" bash -euo pipefail -c '"$@"' "$name" "$@" \
      > "$out/$name.log" 2>&1 || status=$?
  else
    echo "NOT RUN $name: the other parts took all the time" > "$out/$name.log"
    status=124
  fi
  if [[ "$status" == 124 || "$status" == 137 ]]; then
    echo "killed; it may take $seconds seconds" >> "$out/$name.log"
  fi
  echo "$name,$status,$((SECONDS - begin))" >> "$out/parts.csv"
  tail -n 12 "$out/$name.log"
  if [[ "$status" != 0 ]]; then
    # The first errors: of a build of many files, the end of the log has others' warnings.
    grep -m 20 -E "error|Error|FAILED" "$out/$name.log" || true
    echo "== $name FAILED ($status); see $name.log"
    failures=$((failures + 1))
  fi
}

build() {
  local generator=()
  if command -v ninja > /dev/null; then generator=(-G Ninja); fi
  cmake "${generator[@]}" -S "$here" -B "$build" -DCMAKE_BUILD_TYPE=Release
  cmake --build "$build" --parallel "$(nproc)"
}

split_text() {
  head -c -262144 "$text" > "$out/train.txt"
  tail -c 262144 "$text" > "$out/validation.txt"
}

train() { "$build/gpu_train" text="$out/train.txt" kernels="$train_kernels" "$@"; }

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

# A rank of `train` that meets the others in a folder, over the loopback device.
nccl_rank() {
  NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1 NCCL_DEBUG=WARN train steps=20 rows=8 coefficient=1e-3 \
    precision=float32 "$@"
}

has_nccl() { ldd "$build/gpu_train" | grep libnccl > /dev/null; }

# A run whose only rank meets itself through NCCL has the bits of one that does without.
nccl() {
  rm -rf "$out/meet-1"
  mkdir "$out/meet-1"
  train steps=20 rows=8 coefficient=1e-3 precision=float32 curve="$out/nccl-none.csv" \
    checkpoint="$out/nccl-none.bin"
  nccl_rank meet="$out/meet-1" curve="$out/nccl-1.csv" checkpoint="$out/nccl-1.bin"
  cmp "$out/nccl-none.bin" "$out/nccl-1.bin"
  echo "one rank of NCCL has the bits of none"
}

# two_ranks NAME ARGUMENT...: two ranks on the one card, which NCCL is told to take for two
# machines; the arguments are for the second. Their exit statuses go into `first` and `second`.
two_ranks() {
  local meet="$out/meet-$1" name="$1" begin="$SECONDS"
  shift
  rm -rf "$meet"
  mkdir "$meet"
  NCCL_HOSTID="$name-a" nccl_rank meet="$meet" ranks=2 rank=0 curve="$out/$name-rank0.csv" \
    > "$out/$name-rank0.log" 2>&1 &
  local pid=$!
  second=0
  NCCL_HOSTID="$name-b" nccl_rank meet="$meet" ranks=2 rank=1 curve="$out/$name-rank1.csv" "$@" \
    > "$out/$name-rank1.log" 2>&1 || second=$?
  first=0
  wait "$pid" || first=$?
  echo "ranks ended with $first and $second after $((SECONDS - begin)) seconds"
  cat "$out/$name-rank0.log" "$out/$name-rank1.log"
}

# Two ranks train what one does, and one that is killed ends the other with a reason. NCCL does not
# promise that ranks can share a card: that it refuses is a finding, and no failure.
nccl_two_ranks() {
  two_ranks nccl-2
  if grep "could not meet the others: NCCL" "$out"/nccl-2-rank?.log; then
    echo "NOT RUN two ranks on one card: NCCL refuses them"
    return 0
  fi
  [[ "$first" == 0 && "$second" == 0 ]]
  python3 "$here/compare_curves.py" --same "$out/nccl-1.csv" "$out/nccl-2-rank0.csv"
  two_ranks nccl-lost kill_after=10
  [[ "$first" == 1 && "$second" == 137 ]]
  grep "the connection to another rank is lost" "$out/nccl-lost-rank0.log"
}

# The kernels of compute capability 9.0 run on exactly that one.
is_hopper() { nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | grep -qx 9.0; }

attention() {
  "$build/attention_bench" kernels="$1"
}

# groups_of others|hopper: parts of the names of their cases, each of which has one at least.
groups_of() {
  case "$1" in
    others) echo "Linear CrossEntropy Muon AdamW Embedding Norm Relu SwiGlu GateArgmax Sums Zero" \
      "Copy Memory_ Model_ _d8 _d16 _d20 _d32 _d64 _d128" ;;
    hopper) echo "Model_ _d64 _d128" ;;
  esac
}

# conformance others|hopper: all cases. A call that fails ends the process, which then has said
# nothing of the cases after it: so each group of cases is run by itself.
conformance() {
  local status=0 group sound="" broken=""
  "$build/device_conformance" "" "$1" 2>&1 | tee "$out/cases.log" || status=$?
  if grep -qE "^[0-9]+ cases, " "$out/cases.log"; then return "$status"; fi
  for group in $(groups_of "$1"); do
    if "$build/device_conformance" "$group" "$1" 2>&1 | sed -u "s/^/$group: /"; then
      sound+=" $group"
    else
      broken+=" $group"
    fi
  done
  echo "alone, sound:${sound:- none}; broken:${broken:- none}"
  return 1
}

# sanitize TOOL others|hopper: the cases of one length, for a tool slows a kernel down a
# hundredfold. Not every machine lets these tools at its card. What counts is what kernels do: not
# calls by which libraries find out what the driver can do, nor the warnings of racecheck, which are
# for patterns that may be meant. Barriers in memory are more than the compiler tells the tools of.
sanitize() {
  local status=0
  compute-sanitizer --tool "$1" --error-exitcode 9 --report-api-errors no \
    --racecheck-detect-level error --num-cuda-barriers 64 \
    "$build/device_conformance" _T70_ "$2" 2>&1 | tee "$out/sanitize.log" || status=$?
  if grep -q "Device not supported" "$out/sanitize.log"; then
    echo "NOT RUN $1: this machine keeps compute-sanitizer from its card"
    return 0
  fi
  return "$status"
}

# A training step of a model of 65,536 tokens, 65,536 tokens a step in rows of 2,048.
steps() {
  "$build/step_bench" name="d$1" depth="$1" kernels="$2" steps="$3"
}

# Where launches weigh most.
steps_of_d4() {
  "$build/step_bench" name=d4_short depth=4 vocab=256 rows=8 micro_steps=1 sequence=256 \
    head_dim=64 steps=100
}

# As many steps as the dearest of the runs makes in 72 seconds, so that all end with their learning
# rate and can be compared. Seconds are limited for the case that the card slows down.
real_run() {
  local attention="$1" coefficient="$2"
  local name="d12-$attention-$coefficient"
  train depth=12 head_dim=128 rows=16 sequence=2048 steps="$(cat "$out/steps")" seconds=85 \
    attention="$attention" coefficient="$coefficient" gate_init=0.02 sink_init_high=8 \
    validation="$out/validation.txt" curve="$out/$name-curve.csv"
}

count_steps() {
  train depth=12 head_dim=128 rows=16 sequence=2048 steps=40 attention=gated coefficient=1e-3 \
    gate_init=0.02 curve="$out/count.csv"
  python3 "$here/compare_curves.py" --steps "$out/count.csv" 72 | tee "$out/steps"
}

# The kernels for 9.0 have processes of their own: where one hangs, the others have been tested.
check() {
  local kernels=(others)
  if is_hopper; then kernels+=(hopper); fi
  for kind in "${kernels[@]}"; do
    part "conformance_$kind" 150 conformance "$kind"
  done
  part curves 100 curves
  part resume 60 resume
  part graphs 60 graphs
  if has_nccl; then
    part nccl 60 nccl
    part nccl_two_ranks 120 nccl_two_ranks
  else
    echo "NOT RUN nccl: it is neither beside CUDA nor a package of python3"
  fi
  for tool in memcheck racecheck synccheck; do
    for kind in "${kernels[@]}"; do part "sanitize_${tool}_$kind" 50 sanitize "$tool" "$kind"; done
  done
}

bench() {
  local paths=(tensor_cores)
  if is_hopper; then paths+=(hopper); fi
  for kernels in "${paths[@]}"; do part "attention_$kernels" 60 attention "$kernels"; done
  part attention_sdpa 60 python3 "$here/peers.py" sdpa
  for kernels in "${paths[@]}"; do part "steps_d12_$kernels" 80 steps 12 "$kernels" 24; done
  part steps_d12_torch 150 python3 "$here/peers.py" model depth=12
  for kernels in "${paths[@]}"; do part "steps_d20_$kernels" 130 steps 20 "$kernels" 12; done
  part steps_d20_torch 200 python3 "$here/peers.py" model depth=20
  part steps_d4 30 steps_of_d4
  part attention_flex 150 python3 "$here/peers.py" flex
}

real_runs() {
  part count_steps 60 count_steps
  for attention in vanilla sink gated; do
    for coefficient in 0 1e-3; do
      part "d12-$attention-$coefficient" 100 real_run "$attention" "$coefficient"
    done
  done
}

rm -f "$out/parts.csv"
nvidia-smi --query-gpu=name,driver_version --format=csv > "$out/card.csv" || true
part build 400 build
[[ "$failures" == 0 ]] || exit 1
split_text
case "$command" in
  check) check ;;
  bench) bench ;;
  train) real_runs ;;
esac
python3 "$here/summary.py" "$command" "$out" | tee "$out/summary.md"
echo "== $failures parts failed; tables are in $out"
[[ "$failures" == 0 ]]
