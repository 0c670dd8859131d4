#!/usr/bin/env bash
# Installs what the tests need, builds the preset `release`, and runs every test. The last line
# counts them: "N passed, N failed", and ", N skipped" where any were. Exit status 0 only if all
# passed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
  echo "Usage: tests/run.sh [arguments for ctest, for example -R Golden]"
  sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"
  exit 0
fi

# Paths under the tree enter the compiler cache as relative ones, so that a clone in another folder
# finds what an earlier one compiled.
export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1

# phase NAME COMMAND...: runs the command and says how long it took.
phase() {
  local name="$1" start="$SECONDS" status=0
  shift
  echo "== $name"
  "$@" || status=$?
  echo "== $name: $((SECONDS - start)) s"
  return "$status"
}

# A tree that does not build has no tests to count; it must not look like zero failures.
stop() {
  echo "$1: no test ran; counted as one failure"
  echo "0 passed, 1 failed"
  exit 1
}

phase "install packages" deploy/local/install.sh build test || stop "installing packages failed"
phase "configure" cmake --preset release || stop "configuring failed"
phase "build" cmake --build --preset release || stop "the build failed"

# Some tests start daemons and wait for them: one test a core is what the machine can carry.
report="$root/build/release/tests.xml"
rm -f "$report"
status=0
phase "test" ctest --preset release --parallel "$(nproc)" --no-tests=error \
  --output-junit "$report" "$@" || status=$?

# The attributes of JUnit's root element are ctest's own count.
count() {
  sed -n '/<testsuite /,/>/p' "$report" | grep -o "[[:space:]]$1=\"[0-9]*\"" | head -n 1 |
    tr -dc '0-9'
}
[[ -s "$report" ]] || stop "ctest wrote no report"
total="$(count tests)"
failed="$(count failures)"
skipped="$(($(count skipped) + $(count disabled)))"
# Named once more, with what they printed: in a long log the failures are far above.
if [[ "$failed" != 0 ]]; then
  echo "== failed tests (all of the output: build/release/Testing/Temporary/LastTest.log)"
  python3 tests/failures.py "$report"
fi
line="$((total - failed - skipped)) passed, $failed failed"
[[ "$skipped" == 0 ]] || line+=", $skipped skipped"
echo "== all: $SECONDS s"
echo "$line"
[[ "$status" == 0 && "$failed" == 0 && "$total" -gt 0 ]]
