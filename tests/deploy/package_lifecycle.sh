#!/usr/bin/env bash
# Installs the Debian packages in a fresh Debian made by debootstrap, starts what their units say,
# upgrades during a job, removes and purges. Needs root, the network, and a build of the preset
# `release`; leaves nothing behind. Part of tests/nightly.sh.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build="$root/build/release"

# In namespaces of its own, whose processes and mounts end with this script.
if [[ "${1:-}" != --inside ]]; then
  [[ "$(id -u)" == 0 ]] || { echo "package_lifecycle.sh: needs root, for chroot" >&2; exit 1; }
  folder="$(mktemp -d /var/tmp/sinkforge-packages.XXXXXX)"
  trap 'rm -rf --one-file-system "$folder"' EXIT
  unshare --mount --pid --fork --kill-child "${BASH_SOURCE[0]}" --inside "$folder"
  exit
fi
folder="$2"
system="$folder/system"

say() { echo "== $*"; }
fail() {
  echo "FAILED: $*" >&2
  tail -n 20 "$system"/var/log/sinkforge-*.log >&2 2>/dev/null || true
  exit 1
}
inside() { chroot "$system" env HOME=/ "$@"; }
apt_get() {
  inside env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
    -o Dpkg::Use-Pty=0 "$@" >>"$folder/apt.log" 2>&1 ||
    { tail -n 30 "$folder/apt.log" >&2; fail "apt-get $*"; }
}
install_version() {
  local architecture
  architecture="$(inside dpkg --print-architecture)"
  local names=(/packages/sinkforge /packages/sinkforge-coordinator /packages/sinkforge-worker)
  apt_get install "${names[@]/%/_$1-1_$architecture.deb}"
}
client() { inside sinkforge "$@"; }

# await WHAT COMMAND...: until the command succeeds.
await() {
  local what="$1" end="$((SECONDS + 180))"
  shift
  until "$@"; do
    ((SECONDS < end)) || fail "still waiting until $what"
    sleep 0.2
  done
}

# What systemd would do with a unit: its ExecStart with its EnvironmentFile, as its user.
declare -A pids
start_unit() {
  local name="$1" unit="$system/usr/lib/systemd/system/$1.service" command
  command="$(sed -n 's/^ExecStart=//p' "$unit")"
  # shellcheck disable=SC2016  # The shell inside expands the variable.
  chroot "$system" env HOME=/ setpriv --reuid sinkforge --regid sinkforge --clear-groups sh -c \
    '. "$1"; umask 027; exec $(eval echo "$2")' sh "/etc/default/$name" "$command" \
    >>"$system/var/log/$name.log" 2>&1 &
  pids[$name]=$!
}
stop_unit() {
  kill -TERM "${pids[$1]}"
  wait "${pids[$1]}" || fail "$1 ended with exit code $?"
}
state_of() { client show "$1" -o json | sed -n 's/^ *"state": "JOB_STATE_\(.*\)",$/\1/p'; }
has_state() { [[ "$(state_of "$1")" == "$2" ]]; }
has_step() {
  local step
  step="$(client show "$1" -o json | sed -n 's/^ *"step": "\([0-9]*\)",$/\1/p' | head -n 1)"
  ((${step:-0} >= $2))
}

say "packages of two versions"
version="$(sed -n 's/^set(CPACK_PACKAGE_VERSION "\(.*\)")$/\1/p' "$build/CPackConfig.cmake")"
for each in "$version" "$version.1"; do
  cpack --config "$build/CPackConfig.cmake" -B "$folder/$each" -D CPACK_PACKAGE_VERSION="$each" \
    >/dev/null
done

say "a fresh Debian"
debootstrap --variant=minbase bookworm "$system" >"$folder/debootstrap.log" ||
  { tail "$folder/debootstrap.log" >&2; fail debootstrap; }
cp /etc/resolv.conf "$system/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$system/usr/sbin/policy-rc.d"  # No service starts by itself.
chmod +x "$system/usr/sbin/policy-rc.d"
mount -t proc proc "$system/proc"
mount -t tmpfs tmpfs "$system/tmp"
mkdir "$system/packages"
cp "$folder"/*/*.deb "$system/packages/"

say "install $version"
apt_get update
install_version "$version"
inside id sinkforge >/dev/null || fail "no user"
for name in coordinator worker; do
  [[ "$(inside stat -c %U:%a "/var/lib/sinkforge/$name")" == sinkforge:750 ]] ||
    fail "/var/lib/sinkforge/$name"
  [[ -L "$system/etc/systemd/system/multi-user.target.wants/sinkforge-$name.service" ]] ||
    fail "sinkforge-$name.service is not enabled"
done

say "start, and train"
start_unit sinkforge-coordinator
await "the coordinator answers" client workers --retry-for 0.1 >/dev/null 2>&1
start_unit sinkforge-worker
for name in train validation; do
  for line in $(seq 2000); do echo "In the beginning, line $line of the $name text."; done \
    >"$system/var/lib/sinkforge/data/$name.txt"
done
cat >"$system/job.yaml" <<'JOB'
name: packaged
model: {layers: 2, width: 32, heads: 4, attention: gated}
head_balance: {loss: cv, coefficient: 1.0e-3}
data: {train: train.txt, validation: validation.txt, sequence_length: 64}
train: {steps: 60, batch_tokens: 512, micro_batch: 8}
checkpoint: {every_steps: 20}
resources: {threads: 1}
JOB
first="$(client submit /job.yaml)"
client wait "$first" || fail "job $first"

say "upgrade to $version.1 during a job"
echo '# An edit of the administrator.' >>"$system/etc/default/sinkforge-worker"
second="$(client submit /job.yaml --set train.steps=20000 --set checkpoint.every_steps=1000)"
await "$second trains" has_step "$second" 20
install_version "$version.1"
grep -q 'An edit of the administrator' "$system/etc/default/sinkforge-worker" ||
  fail "the upgrade overwrote /etc/default/sinkforge-worker"
for name in coordinator worker; do  # As postinst does where systemd runs.
  stop_unit "sinkforge-$name"
  start_unit "sinkforge-$name"
done
await "$second trains again" has_state "$second" RUNNING
client events "$second" >"$folder/events"
grep -qi checkpoint "$folder/events" ||
  fail "no checkpoint before the restart: $(<"$folder/events")"
client cancel "$second" >/dev/null
await "$second is cancelled" has_state "$second" CANCELLED
has_state "$first" SUCCEEDED || fail "the upgrade lost $first"

say "remove"
stop_unit sinkforge-worker
stop_unit sinkforge-coordinator
apt_get remove sinkforge sinkforge-coordinator sinkforge-worker
for file in sinkforge sinkforge-coordinator sinkforge-worker sinkforge-trainer; do
  [[ ! -e "$system/usr/bin/$file" ]] || fail "$file is still there"
done
[[ -d "$system/var/lib/sinkforge/coordinator/" && -f "$system/etc/default/sinkforge-worker" ]] ||
  fail "remove deleted data or options"

say "install again: the jobs are still there"
install_version "$version.1"
start_unit sinkforge-coordinator
await "the coordinator answers" client workers --retry-for 0.1 >/dev/null 2>&1
has_state "$first" SUCCEEDED || fail "$first is gone"
stop_unit sinkforge-coordinator

say "purge"
apt_get purge sinkforge sinkforge-coordinator sinkforge-worker
left="$(cd "$system" && find etc var/lib usr -path '*sinkforge*' ! -path 'var/lib/sinkforge/data*' \
  ! -path var/lib/sinkforge ! -path 'var/lib/apt/*')"
[[ -z "$left" ]] || fail "left behind: $left"
[[ -s "$system/var/lib/sinkforge/data/train.txt" ]] || fail "purge deleted training data"
say "passed after $SECONDS s"
