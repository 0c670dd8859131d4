#!/usr/bin/env bash
# Stage `build` of every image: compiles the preset and packs it. The source is the current folder;
# the packages go to the folder given.
set -euo pipefail
preset="$1" packages="$2"

deploy/local/install.sh build
cmake --preset "$preset"
cmake --build --preset "$preset" --target sinkforge sinkforge-coordinator sinkforge-worker \
  sinkforge-trainer sinkforge_documents
cpack --config "build/$preset/CPackConfig.cmake" -B "$packages"
