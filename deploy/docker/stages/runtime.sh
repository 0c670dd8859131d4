#!/usr/bin/env bash
# Last stage of every image: the package of one daemon with what it depends on, and the client,
# whose `sinkforge health` is the health check. The packages are in the folder given.
set -euo pipefail
name="$1" packages="$2"

# A number that deploy/kubernetes and volumes can rely on; the package leaves this user as it is.
groupadd --system --gid 10001 sinkforge
useradd --system --uid 10001 --gid sinkforge --home-dir /var/lib/sinkforge --no-create-home \
  --shell /usr/sbin/nologin sinkforge
apt-get update
apt-get install -y --no-install-recommends "$packages/$name"_*.deb "$packages"/sinkforge_*.deb
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
mkdir -p /data
