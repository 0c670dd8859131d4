#!/usr/bin/env bash
# Builds the binary and the peer's environment that train_speed.py needs, and runs it with these
# arguments.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/torch_environment.sh" train_speed
exec "$python" tests/bench/train_speed.py "$@"
