#!/usr/bin/env bash
# Prints the path of a Python that has the packages of one requirements file; makes its virtual
# environment under build/ at the first call. For comparisons with other programs only.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

if [[ $# != 1 || ! -f "$1" ]]; then
  echo "Usage: tests/python_venv.sh REQUIREMENTS.txt" >&2
  exit 2
fi

# One environment for each content, so that a changed version makes another.
folder="$root/build/venv-$(sha256sum "$1" | cut -c1-16)"
if [[ ! -f "$folder/complete" ]]; then
  rm -rf "$folder"
  /usr/bin/python3 -m venv "$folder" >&2 || {
    echo "python_venv.sh: no virtual environment; run deploy/local/install.sh test" >&2
    exit 1
  }
  "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$1" >&2 || {
    echo "python_venv.sh: pip could not install what $1 lists. Where the Python package" >&2
    echo "index is not reachable, point pip at a mirror (PIP_INDEX_URL) or at a folder of" >&2
    echo "wheels (PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER) and start again." >&2
    exit 1
  }
  touch "$folder/complete"
fi
echo "$folder/bin/python"
