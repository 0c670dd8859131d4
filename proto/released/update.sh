#!/usr/bin/env bash
# Brings sinkforge_v1.textproto up to date with the protocol after an addition. released_proto_test
# fails where something released was removed or changed; running this must not paper over that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
protos=(sinkforge/v1/*.proto)
set_file="$(mktemp)"
trap 'rm -f "$set_file"' EXIT
protoc -I . --include_imports --descriptor_set_out="$set_file" "${protos[@]}"
protoc --decode=google.protobuf.FileDescriptorSet -I /usr/include google/protobuf/descriptor.proto \
  <"$set_file" >released/sinkforge_v1.textproto
