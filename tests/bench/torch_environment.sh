#!/usr/bin/env bash
# Sourced by the benchmarks that PyTorch is the peer of: builds the binary named in $1 and sets
# `python` to a virtual environment with the pinned PyTorch, which is made once under
# build/torch-environment (about 6 GB, from the Python package index).
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$root"
environment="$root/build/torch-environment"
python="$environment/bin/python3"
requirements="$root/tests/bench/requirements-torch.txt"
{
  deploy/local/install.sh build bench
  if ! cmp -s "$requirements" "$environment/installed.txt"; then
    /usr/bin/python3 -m venv "$environment"
    if ! "$python" -m pip install --quiet --requirement "$requirements"; then
      echo "The pinned PyTorch could not be installed; this benchmark needs the Python package" \
        "index once, or pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS) naming another source."
      exit 1
    fi
    cp "$requirements" "$environment/installed.txt"
  fi
  export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
  [[ -f build/release/build.ninja ]] || cmake --preset release
  cmake --build --preset release --target "$1"
} >&2
