#!/usr/bin/env bash
# Builds the images of the coordinator and the CPU worker with podman, on a Debian made by
# debootstrap because no registry is asked, and runs them as compose.yaml does: read-only, without
# capabilities, with their volumes and health checks. Trains a job, stops, and starts again. Needs
# root, the network, and a build of the preset `release`; leaves nothing behind but empty control
# groups. Part of tests/nightly.sh.
#
# --build also runs the stage `build`, which compiles everything anew; otherwise the packages of
# the build that is there take its place.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build="$root/build/release"

# In namespaces of its own, whose processes and mounts end with this script.
if [[ "${1:-}" != --inside ]]; then
  [[ "$(id -u)" == 0 ]] || { echo "images.sh: needs root, for debootstrap" >&2; exit 1; }
  folder="$(mktemp -d /var/tmp/sinkforge-images.XXXXXX)"
  trap 'rm -rf --one-file-system "$folder"' EXIT
  unshare --mount --mount-proc --pid --fork --kill-child "${BASH_SOURCE[0]}" --inside "$folder" \
    "${1:-}"
  exit
fi
folder="$2" with_build="$3"
context="$folder/context"

say() { echo "== $*"; }
fail() {
  echo "FAILED: $*" >&2
  for name in coordinator worker; do
    engine logs --tail 20 "$name" >&2 || true
  done
  tail -n 20 "$folder"/*.log >&2 || true
  exit 1
}

# await WHAT COMMAND...: until the command succeeds.
await() {
  local what="$1" end="$((SECONDS + 300))"
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "still waiting until $what"
    sleep 0.2
  done
}

# crun refuses machines that have both hierarchies of control groups; it sees the first only.
if mountpoint --quiet /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi

# podman with everything that it keeps in our folder. It would report as an error that no systemd is
# there to run the health checks at their intervals; this script runs them.
engine() {
  podman --log-level fatal --root "$folder/storage" --runroot "$folder/run" --tmpdir "$folder/tmp" \
    --storage-driver overlay --cgroup-manager cgroupfs --events-backend file "$@"
}

# podman's own limits are above those of a root without CAP_SYS_RESOURCE.
limits=(--ulimit nofile=4096:4096 --ulimit nproc=4096:4096)

# The whole Dockerfile, or with the packages at hand in the place of its first stage's steps.
dockerfile() {
  if [[ "$with_build" == --build ]]; then
    cat "$root/deploy/docker/$1.Dockerfile"
  else
    sed -e '/^WORKDIR/d' -e 's,^COPY \. \.$,COPY packages /packages,' -e '/^RUN .*build\.sh/d' \
      "$root/deploy/docker/$1.Dockerfile"
  fi
}

say "a fresh Debian as base image"
debootstrap --variant=minbase bookworm "$folder/debian" >"$folder/debootstrap.log" ||
  fail debootstrap
rm -rf "$folder"/debian/var/cache/apt/archives/*.deb "$folder"/debian/var/lib/apt/lists/*
tar -C "$folder/debian" --one-file-system -c . | engine import --quiet - localhost/debian \
  >/dev/null
size_of() { engine image inspect --format '{{.Size}}' "$1" | awk '{printf "%.0f MB", $1 / 1e6}'; }
say "it takes $(size_of localhost/debian)"

mkdir "$context"
if [[ "$with_build" == --build ]]; then
  git -C "$root" archive HEAD | tar -x -C "$context"
else
  mkdir -p "$context/deploy/docker"
  cp -r "$root/deploy/docker/stages" "$context/deploy/docker/"
  cpack --config "$build/CPackConfig.cmake" -B "$context/packages" >"$folder/cpack.log" ||
    fail cpack
fi

for name in coordinator worker; do
  say "build sinkforge-$name"
  dockerfile "$name" >"$folder/$name.Dockerfile"
  # Docker's format, because OCI's has no health checks.
  engine build --quiet --format docker --network host "${limits[@]}" --pull=never \
    --build-arg DEBIAN=localhost/debian --file "$folder/$name.Dockerfile" \
    --tag "localhost/sinkforge-$name" "$context" >"$folder/$name.build.log" 2>&1 ||
    fail "building sinkforge-$name"
  [[ "$(engine image inspect --format '{{.User}}' "sinkforge-$name")" == 10001:10001 ]] ||
    fail "the user of sinkforge-$name"
  say "sinkforge-$name takes $(size_of "sinkforge-$name")"
done

# With one loopback for both; the network of compose.yaml has names instead.
confined=("${limits[@]}" --read-only --cap-drop all --security-opt no-new-privileges
  --tmpfs /tmp --log-driver k8s-file)
mkdir "$folder/data"
for line in $(seq 2000); do echo "In the beginning, line $line."; done >"$folder/data/text.txt"
for line in $(seq 200); do echo "And the evening, line $line."; done >"$folder/data/held_back.txt"

say "run"
engine run --detach --name coordinator --network none "${confined[@]}" \
  --volume coordinator:/var/lib/sinkforge/coordinator sinkforge-coordinator >/dev/null ||
  fail "the coordinator does not start"
engine run --detach --name worker --network container:coordinator "${confined[@]}" \
  --volume worker:/var/lib/sinkforge/worker --volume "$folder/data:/data:ro" sinkforge-worker \
  --name=worker --coordinator=127.0.0.1:7070 --listen=127.0.0.1:7071 \
  --metrics-listen=127.0.0.1:9471 --grace=60s >/dev/null || fail "the worker does not start"
for name in coordinator worker; do
  await "the health check of $name succeeds" engine healthcheck run "$name"
  for tool in c++ cmake dpkg-shlibdeps; do
    ! engine exec "$name" sh -c "command -v $tool" >/dev/null || fail "sinkforge-$name has $tool"
  done
  ! engine exec "$name" touch /usr/bin/new 2>/dev/null || fail "$name may write to its programs"
  [[ "$(engine exec "$name" id -u)" == 10001 ]] || fail "$name runs as another user"
done

say "train"
cat >"$folder/job.yaml" <<'JOB'
name: contained
model: {layers: 2, width: 32, heads: 4}
data: {train: text.txt, validation: held_back.txt, sequence_length: 64}
train: {steps: 40, batch_tokens: 512, micro_batch: 8}
resources: {threads: 1}
JOB
client() { engine exec --interactive coordinator sinkforge "$@"; }
job="$(client submit /dev/stdin <"$folder/job.yaml")" || fail "submit"
client wait "$job" || fail "$job"

say "stop and start: the volumes keep the job and its checkpoint"
for name in worker coordinator; do
  engine stop --time 120 "$name" >/dev/null
  code="$(engine inspect --format '{{.State.ExitCode}}' "$name")"
  [[ "$code" == 0 ]] || fail "$name ended with exit code $code"
done
for name in coordinator worker; do
  engine start "$name" >/dev/null || fail "$name does not start again"
  await "the health check of $name succeeds" engine healthcheck run "$name"
done
await "the checkpoint is where it was, and whole" client checkpoints verify "$job"
engine stop --all --time 120 >/dev/null
say "passed after $SECONDS s"
