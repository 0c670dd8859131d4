#!/usr/bin/env bash
# Stage `cuda`: NVIDIA's compiler and libraries, from NVIDIA's packages for Debian 12. The folder
# given has cuda-keyring.deb, which is how NVIDIA hands out its archive's key.
set -euo pipefail
keyring="$1" packages="$2"

apt-get update
apt-get install -y --no-install-recommends ca-certificates "$keyring"
apt-get update
read -ra names <<<"$packages"
apt-get install -y --no-install-recommends "${names[@]}"
