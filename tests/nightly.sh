#!/usr/bin/env bash
# The checks that take too long for every change: the unit, conformance and end-to-end tests under
# AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer. About an hour on two
# cores when nothing is in the compiler cache. With arguments, only those parts.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

usage() {
  cat <<'USAGE'
Usage: tests/nightly.sh [asan] [tsan] [cost] [stress] [sim] [deploy] [tokenizer]

  asan  every test under AddressSanitizer and UndefinedBehaviorSanitizer
  tsan  every test under ThreadSanitizer
  cost  what the head-balance loss costs a step (tests/bench/loss_cost.sh)
  stress  100 pauses of three ranks, and ten minutes of kills, stops, full disks and cut links
          (tests/stress); as root, because of the last two
  sim     10,000 seeds of the simulated cluster (the test run has 200)
  deploy  installs, upgrades and purges the Debian packages in a fresh Debian that systemd has
          booted, and builds and runs the container images (tests/deploy/*.sh); needs root
  tokenizer  our tokenizers and the `tokenizers` package: 100,000 strings, every code point, real
        text, training; needs the Python package index once

Without arguments: all of them. tests/bench/effect.py, which trains for hours, is left out.
USAGE
}

export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
failures=()

sanitized() {
  local preset="$1" start="$SECONDS"
  echo "== $preset"
  # tests/tidy reads the sources, which are the same here; tests/deploy is about release builds.
  cmake --preset "$preset" && cmake --build --preset "$preset" &&
    ctest --preset "$preset" --parallel "$(nproc)" --label-exclude '^(tidy|deploy)$' \
      --timeout 1200 ||
    failures+=("$preset")
  echo "== $preset: $((SECONDS - start)) s"
}

stress() {
  cmake --preset release && cmake --build --preset release || return 1
  tests/stress/pauses.py --pauses 100 || return 1
  tests/stress/stress.py --seconds 600 --workers 4 --jobs 6 --namespaces --full-disks
}

# One process a core, each with its share of the seeds.
simulated() {
  local jobs each first status=0 pids=()
  cmake --preset release && cmake --build --preset release --target sim_run || return 1
  jobs="$(nproc)"
  each=$(((10000 + jobs - 1) / jobs))
  for ((first = 1; first <= 10000; first += each)); do
    build/release/bin/sim_run "$first" "$((first + each - 1))" &
    pids+=("$!")
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return "$status"
}

deployed() {
  deploy/local/install.sh nightly
  cmake --preset release && cmake --build --preset release &&
    tests/deploy/package_lifecycle.sh && tests/deploy/images.sh
}

parts=("$@")
[[ ${#parts[@]} -gt 0 ]] || parts=(asan tsan cost stress sim deploy tokenizer)
for part in "${parts[@]}"; do
  case "$part" in
    asan | tsan | cost | stress | sim | deploy | tokenizer) ;;
    -h | --help) usage; exit 0 ;;
    *) echo "nightly.sh: unknown part '$part'" >&2; usage >&2; exit 2 ;;
  esac
done

deploy/local/install.sh build test
for part in "${parts[@]}"; do
  case "$part" in
    asan | tsan) sanitized "$part" ;;
    cost) tests/bench/loss_cost.sh || failures+=(cost) ;;
    stress) stress || failures+=(stress) ;;
    sim) simulated || failures+=(sim) ;;
    deploy) deployed || failures+=(deploy) ;;
    tokenizer) tests/fuzz/tokenizer.sh || failures+=(tokenizer) ;;
  esac
done
if [[ ${#failures[@]} -gt 0 ]]; then
  echo "failed: ${failures[*]}"
  exit 1
fi
echo "passed: ${parts[*]}"
