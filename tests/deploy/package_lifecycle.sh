#!/usr/bin/env bash
# Installs the Debian packages in a fresh Debian that systemd has booted (debootstrap,
# systemd-nspawn), trains, kills a daemon, upgrades during a job, starts the machine anew, removes
# and purges. Needs root, the network, and a build of the preset `release`; leaves nothing behind
# but empty control groups. Part of tests/nightly.sh.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
build="$root/build/release"

# In namespaces of its own, whose processes and mounts end with this script.
if [[ "${1:-}" != --inside ]]; then
  [[ "$(id -u)" == 0 ]] || { echo "package_lifecycle.sh: needs root, to boot Debian" >&2; exit 1; }
  folder="$(mktemp -d /var/tmp/sinkforge-packages.XXXXXX)"
  trap 'rm -rf --one-file-system "$folder"' EXIT
  unshare --mount --mount-proc --pid --fork --kill-child "${BASH_SOURCE[0]}" --inside "$folder"
  exit
fi
folder="$2"
system="$folder/system"

say() { echo "== $*"; }
fail() {
  echo "FAILED: $*" >&2
  if is_booted; then inside journalctl --no-pager --lines 60 -u 'sinkforge-*' >&2 || true; fi
  tail -n 20 "$folder/boot.log" >&2 2>/dev/null || true
  exit 1
}

# await WHAT COMMAND...: until the command succeeds.
await() {
  local what="$1" end="$((SECONDS + 300))"
  shift
  until "$@"; do
    ((SECONDS < end)) || fail "still waiting until $what"
    sleep 0.2
  done
}

# The machine: systemd in namespaces with a network of their own, in which there is loopback alone,
# so that the services may have their own ports.
init=""  # its process 1
clean=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ DEBIAN_FRONTEND=noninteractive)
is_booted() { [[ -n "$init" && -d "/proc/$init" ]]; }
# The first child of systemd-nspawn only makes the second, and ends: ask again until it is up.
is_up() {
  init="$(pgrep --parent "$nspawn" --oldest)" && is_booted &&
    [[ "$(inside systemctl is-system-running 2>/dev/null)" == running ]]
}
boot() {
  systemd-nspawn --quiet --boot --directory="$system" --machine=sinkforge-test --register=no \
    --keep-unit --private-network --console=pipe --kill-signal=SIGRTMIN+4 \
    --rlimit="NOFILE=$(ulimit -Hn)" --resolv-conf=off --timezone=off \
    </dev/null >>"$folder/boot.log" 2>&1 &
  nspawn=$!
  await "systemd is up, and no unit failed" is_up
}
power_off() {
  inside systemctl poweroff --no-block
  wait "$nspawn" || fail "the machine did not stop: exit code $?"
  init=""
}
# In the machine while it is booted, else in its root.
inside() {
  if is_booted; then
    nsenter --target "$init" --all -- "${clean[@]}" "$@"
  else
    chroot "$system" "${clean[@]}" "$@"
  fi
}

apt_get() {
  inside apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >>"$folder/apt.log" 2>&1 ||
    { tail -n 30 "$folder/apt.log" >&2; fail "apt-get $*"; }
}
install_version() {  # with apt-get's options after the version
  local architecture
  architecture="$(inside dpkg --print-architecture)"
  local names=(/packages/sinkforge /packages/sinkforge-coordinator /packages/sinkforge-worker)
  apt_get install "${@:2}" "${names[@]/%/_$1-1_$architecture.deb}"
}
client() { inside sinkforge "$@"; }

services=(sinkforge-coordinator sinkforge-worker)
# expect STATE SERVICE...
expect() {
  local service state
  for service in "${@:2}"; do
    state="$(inside systemctl is-active "$service" || true)"
    [[ "$state" == "$1" ]] || fail "$service is $state, not $1"
  done
}
property() { inside systemctl show --value --property "$2" "$1"; }
state_of() { client show "$1" -o json | sed -n 's/^ *"state": "JOB_STATE_\(.*\)",$/\1/p'; }
has_state() { [[ "$(state_of "$1")" == "$2" ]]; }
# trains_again JOB N: in at least its Nth attempt.
trains_again() {
  local attempts
  attempts="$(client events "$1" 2>/dev/null | grep -c 'attempt started')" || return 1
  ((attempts >= $2)) && has_state "$1" RUNNING
}
has_step() {
  local step
  step="$(client show "$1" -o json | sed -n 's/^ *"step": "\([0-9]*\)",$/\1/p' | head -n 1)"
  ((${step:-0} >= $2))
}
# restarted SERVICE OLD_PID: systemd has started it anew, and it has said that it serves.
restarted() {
  [[ "$(property "$1" ActiveState)" == active && "$(property "$1" MainPID)" != "$2" ]]
}

say "packages of two versions"
version="$(sed -n 's/^set(CPACK_PACKAGE_VERSION "\(.*\)")$/\1/p' "$build/CPackConfig.cmake")"
for each in "$version" "$version.1"; do
  cpack --config "$build/CPackConfig.cmake" -B "$folder/$each" -D CPACK_PACKAGE_VERSION="$each" \
    >/dev/null
done

say "a fresh Debian"
debootstrap --variant=minbase --include=systemd-sysv,dbus bookworm "$system" \
  >"$folder/debootstrap.log" || { tail "$folder/debootstrap.log" >&2; fail debootstrap; }
cp /etc/resolv.conf "$system/etc/resolv.conf"
mkdir "$system/packages"
cp "$folder"/*/*.deb "$system/packages/"
apt_get update
install_version "$version" --download-only  # The machine itself has no network.

say "boot"
boot

say "install $version"
install_version "$version"
inside id sinkforge >/dev/null || fail "no user"
expect active "${services[@]}"
for name in coordinator worker; do
  [[ "$(inside stat -c %U:%a "/var/lib/sinkforge/$name")" == sinkforge:750 ]] ||
    fail "/var/lib/sinkforge/$name"
  inside systemctl --quiet is-enabled "sinkforge-$name" || fail "sinkforge-$name is not enabled"
  [[ "$(inside stat -c %U "/proc/$(property "sinkforge-$name" MainPID)")" == sinkforge ]] ||
    fail "sinkforge-$name does not run as sinkforge"
done

say "train"
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
inside journalctl --no-pager --output cat -u sinkforge-worker >"$folder/journal"
grep -q "\"job\":\"$first\"" "$folder/journal" || fail "the journal has nothing of $first"

say "a wrong option is said once, and cured by the right one"
sed -i 's/^SINKFORGE_COORDINATOR_OPTIONS=.*/SINKFORGE_COORDINATOR_OPTIONS="--lissten x"/' \
  "$system/etc/default/sinkforge-coordinator"
! inside systemctl restart sinkforge-coordinator 2>/dev/null || fail "it started"
expect failed sinkforge-coordinator
[[ "$(property sinkforge-coordinator NRestarts)" == 0 ]] || fail "it was tried again"
sed -i 's/^SINKFORGE_COORDINATOR_OPTIONS=.*/SINKFORGE_COORDINATOR_OPTIONS=""/' \
  "$system/etc/default/sinkforge-coordinator"
inside systemctl restart sinkforge-coordinator
expect active "${services[@]}"

say "kill -9 of either daemon during a job"
second="$(client submit /job.yaml --set train.steps=10000000 --set checkpoint.every_steps=1000)"
await "$second trains" has_step "$second" 20
for service in "${services[@]}"; do
  pid="$(property "$service" MainPID)"
  inside systemctl kill --kill-who=main --signal=KILL "$service"
  await "$service runs again" restarted "$service" "$pid"
done
await "$second trains again" trains_again "$second" 2

say "upgrade to $version.1 during a job"
echo '# An edit of the administrator.' >>"$system/etc/default/sinkforge-worker"
pids=("$(property sinkforge-coordinator MainPID)" "$(property sinkforge-worker MainPID)")
install_version "$version.1"
grep -q 'An edit of the administrator' "$system/etc/default/sinkforge-worker" ||
  fail "the upgrade overwrote /etc/default/sinkforge-worker"
for i in 0 1; do
  expect active "${services[i]}"
  restarted "${services[i]}" "${pids[i]}" || fail "${services[i]} is still the old one"
done
await "$second trains again" trains_again "$second" 3
client events "$second" >"$folder/events"
grep -qi checkpoint "$folder/events" ||
  fail "no checkpoint before the restart: $(<"$folder/events")"

say "start the machine anew during a job"
power_off
boot
expect active "${services[@]}"
await "$second trains again" trains_again "$second" 4
client cancel "$second" >/dev/null
await "$second is cancelled" has_state "$second" CANCELLED
has_state "$first" SUCCEEDED || fail "the upgrade lost $first"

say "remove"
apt_get remove sinkforge sinkforge-coordinator sinkforge-worker
expect inactive "${services[@]}"
[[ -z "$(inside find /proc -maxdepth 1 -user sinkforge)" ]] || fail "a process of sinkforge is left"
for file in sinkforge sinkforge-coordinator sinkforge-worker sinkforge-trainer; do
  [[ ! -e "$system/usr/bin/$file" ]] || fail "$file is still there"
done
[[ -d "$system/var/lib/sinkforge/coordinator/" && -f "$system/etc/default/sinkforge-worker" ]] ||
  fail "remove deleted data or options"

say "install again: the jobs are still there"
install_version "$version.1"
expect active "${services[@]}"
has_state "$first" SUCCEEDED || fail "$first is gone"

say "purge"
apt_get purge sinkforge sinkforge-coordinator sinkforge-worker
expect inactive "${services[@]}"
left="$(cd "$system" && find etc var/lib usr -path '*sinkforge*' ! -path 'var/lib/sinkforge/data*' \
  ! -path var/lib/sinkforge ! -path 'var/lib/apt/*')"
[[ -z "$left" ]] || fail "left behind: $left"
[[ -s "$system/var/lib/sinkforge/data/train.txt" ]] || fail "purge deleted training data"
await "no unit has failed" is_up
power_off
say "passed after $SECONDS s"
