#!/usr/bin/env bash
# Our tokenizers against the `tokenizers` package, pinned in requirements.txt: 100,000 strings,
# every code point, the King James Bible, and the training.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root"
python="$(tests/python_venv.sh tests/fuzz/requirements.txt)"
cmake --preset release >/dev/null
cmake --build --preset release --target tokenizer_probe sinkforge
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
bible="$folder/bible.txt"
bible -f 'Gen1:1-Rev22:21' >"$bible"
"$python" -B tests/fuzz/tokenizer_fuzz.py --probe build/release/bin/tokenizer_probe \
  --strings 100000 --seed "${SEED:-$(date +%s)}" --characters --text "$bible"
"$python" -B tests/fuzz/tokenizer_training.py --sinkforge build/release/bin/sinkforge \
  --text "$bible" --vocab-size 65536
