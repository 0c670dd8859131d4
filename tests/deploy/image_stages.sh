#!/usr/bin/env bash
# Runs what the container images are made of where no container engine is: each stage's script in a
# fresh Debian made by debootstrap, then the two images' entry points, health checks and users, and
# a job. Needs root, the network, and a build of the preset `release`. Part of tests/nightly.sh.
#
# --build also runs the stage `build`, which compiles everything anew; otherwise the packages of
# the build that is there take its place.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build="$root/build/release"
docker="$root/deploy/docker"

# In namespaces of its own, whose processes and mounts end with this script.
if [[ "${1:-}" != --inside ]]; then
  [[ "$(id -u)" == 0 ]] || { echo "image_stages.sh: needs root, for chroot" >&2; exit 1; }
  folder="$(mktemp -d /var/tmp/sinkforge-images.XXXXXX)"
  trap 'rm -rf --one-file-system "$folder"' EXIT
  unshare --mount --pid --fork --kill-child "${BASH_SOURCE[0]}" --inside "$folder" "${1:-}"
  exit
fi
folder="$2" with_build="$3"

say() { echo "== $*"; }
fail() {
  echo "FAILED: $*" >&2
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

# A root with what an engine gives every container.
make_root() {
  cp -a "$folder/debian" "$folder/$1"
  cp /etc/resolv.conf "$folder/$1/etc/resolv.conf"
  mount -t proc proc "$folder/$1/proc"
  mount --bind /dev "$folder/$1/dev"
  mkdir -p "$folder/$1/packages" "$folder/$1/stages"
  mount --bind "$docker/stages" "$folder/$1/stages"
}

# The instruction of an image's Dockerfile as words.
words_of() {
  sed -n "s/^ *$2 *\(\[.*\]\)$/\1/p" "$docker/$1.Dockerfile" | tail -n 1 | tr -d '[]",'
}

# As the image's user, with a root that cannot be written but for its volume and /tmp.
run_as_image() {
  chroot "$folder/$1" "${as_image[@]}" "${@:2}"
}
as_image=(setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all)
freeze() {
  local state="$folder/$1/var/lib/sinkforge/$1"
  mount --rbind "$folder/$1" "$folder/$1"  # with /proc and /dev below it
  mount -o remount,bind,ro "$folder/$1"
  mount -t tmpfs -o mode=1777 tmpfs "$folder/$1/tmp"
  mount -t tmpfs -o uid=10001,gid=10001 tmpfs "$state"
}

say "a fresh Debian"
debootstrap --variant=minbase bookworm "$folder/debian" >"$folder/debootstrap.log" ||
  fail debootstrap

if [[ "$with_build" == --build ]]; then
  say "stage build"
  make_root build
  mkdir "$folder/build/source"
  git -C "$root" archive HEAD | tar -x -C "$folder/build/source"
  chroot "$folder/build" sh -c 'cd /source && /stages/build.sh release /packages' \
    >"$folder/build.log" 2>&1 || fail "stage build"
  packages="$folder/build/packages"
else
  packages="$folder/packages"
  cpack --config "$build/CPackConfig.cmake" -B "$packages" >"$folder/cpack.log" || fail cpack
fi

for name in coordinator worker; do
  say "stage runtime of $name"
  make_root "$name"
  cp "$packages"/*.deb "$folder/$name/packages/"
  chroot "$folder/$name" /stages/runtime.sh "sinkforge-$name" /packages \
    >"$folder/$name.stage.log" 2>&1 || fail "stage runtime of $name"
  rm -r "$folder/$name/packages"
  for tool in c++ cmake dpkg-shlibdeps; do
    [[ -z "$(chroot "$folder/$name" sh -c "command -v $tool")" ]] || fail "$name has $tool"
  done
  [[ "$(chroot "$folder/$name" id -u sinkforge)" == 10001 ]] || fail "the user's number"
  size="$(du -sx --block-size=M --exclude=proc --exclude=dev "$folder/$name" | cut -f 1)"
  say "$name takes $size, of which Debian $(du -sx --block-size=M "$folder/debian" | cut -f 1)"
done
for line in $(seq 2000); do echo "In the beginning, line $line."; done \
  >"$folder/worker/data/text.txt"

# One host here: the listening addresses of the images, on loopback and free ports, are the only
# part of their commands that is replaced.
free_port() {
  python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
}
coordinator_at="127.0.0.1:$(free_port)" worker_at="127.0.0.1:$(free_port)"
say "start as the images do"
for name in coordinator worker; do freeze "$name"; done
read -ra entry <<<"$(words_of coordinator ENTRYPOINT)"
chroot "$folder/coordinator" "${as_image[@]}" "${entry[@]}" --listen="$coordinator_at" \
  --metrics-listen=127.0.0.1:0 --http=127.0.0.1:0 >"$folder/coordinator.log" 2>&1 &
coordinator=$!
await "the coordinator is healthy" run_as_image coordinator sinkforge health "$coordinator_at"
read -ra entry <<<"$(words_of worker ENTRYPOINT)"
chroot "$folder/worker" "${as_image[@]}" "${entry[@]}" --name=worker \
  --coordinator="$coordinator_at" --listen="$worker_at" --metrics-listen=127.0.0.1:0 \
  >"$folder/worker.log" 2>&1 &
worker=$!
await "the worker is healthy" run_as_image worker sinkforge health "$worker_at"

say "train"
cat >"$folder/job.yaml" <<'JOB'
name: contained
model: {layers: 2, width: 32, heads: 4}
data: {train: text.txt, validation: text.txt, sequence_length: 64}
train: {steps: 40, batch_tokens: 512, micro_batch: 8}
resources: {threads: 1}
JOB
client() { run_as_image coordinator sinkforge --coordinator "$coordinator_at" "$@"; }
job="$(client submit /dev/stdin <"$folder/job.yaml")" || fail "submit"
client wait "$job" || fail "$job"

say "stop as an engine does"
for pid in "$worker" "$coordinator"; do
  kill -TERM "$pid"
  wait "$pid" || fail "exit code $?"
done
say "passed after $SECONDS s"
