#!/usr/bin/env bash
# Installs the Debian 12 packages that SinkForge needs; the only list of them in the tree.
# Does nothing, in milliseconds, where everything is there already.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: deploy/local/install.sh GROUP...

Installs Debian 12 packages that are missing. Groups:
  build   what configuring and compiling every CPU part needs
  test    what the tests need beside that
  text    the text that the quickstart trains on (the King James Bible, a Debian package)
  nightly what tests/nightly.sh needs beside that
  golden  what tests/golden/generate.py needs (PyTorch)
  bench   what the benchmarks need whose peer is PyTorch, and those that count instructions

Environment: SINKFORGE_SKIP_INSTALL=1 skips this step, for systems whose packages were installed
by hand. Exit status: 0 all there, 1 installation failed, 2 wrong usage or another system.
USAGE
}

# The compiler, the build tools, and the libraries that the programs link.
build_packages=(
  g++ cmake ninja-build pkg-config ccache mold
  libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev grpc-proto libabsl-dev
  librocksdb-dev prometheus-cpp-dev libgtest-dev libgmock-dev
  libgloo-dev libdnnl-dev ocl-icd-opencl-dev  # Debian's dnnl asks CMake for an OpenCL loader.
  nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libxxhash-dev libssl-dev
  libpcre2-dev libutf8proc-dev libsimdjson-dev
  libjs-chart.js  # is embedded in the coordinator's page and in reports
  help2man dpkg-dev file  # The manual pages of the daemons, and Debian packages.
  python3  # Configuring looks for the interpreter of the tests.
)

# clang-format checks the format; Prometheus, Chromium (its smallest build) and Python are the real
# clients of the end-to-end tests; the shells, man and systemd-analyze judge what is made for them.
# Debian's prometheus also starts its own service, which the tests do not use.
test_packages=(
  clang-format-14 python3-grpcio python3-protobuf python3-numpy python3-yaml
  prometheus chromium-headless-shell gnuplot-nox curl openssl procps bible-kjv bible-kjv-text
  bash zsh fish man-db groff-base systemd binutils python3-jsonschema python3-pip python3-venv
)

text_packages=(bible-kjv bible-kjv-text)

# Fresh Debians to install packages in, to boot, and to make container images of.
nightly_packages=(debootstrap systemd-container podman crun)

# OpenBLAS replaces the reference BLAS, with which PyTorch is 30 times slower.
golden_packages=(python3-torch python3-numpy libopenblas0-pthread)

# torch.compile compiles against Python's headers.
bench_packages=(python3-venv python3-dev valgrind)

is_installed() {
  [[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" == [ih]"i " ]]
}

fail() {
  echo "install.sh: $1" >&2
  exit "${2:-1}"
}

is_debian_12() {
  [[ -r /etc/os-release ]] || return 1
  # shellcheck disable=SC1091
  (. /etc/os-release && [[ "${ID:-}" == debian && "${VERSION_ID:-}" == 12 ]])
}

install_packages() {
  local as_root=()
  if [[ "$(id -u)" != 0 ]]; then
    command -v sudo >/dev/null ||
      fail "not root and no sudo; as root run: apt-get install --no-install-recommends $*"
    as_root=(sudo)
  fi
  local apt_get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
  # A package list that knows all of them may still be too old for the archive's files: then the
  # first attempt fails, and the list is brought up to date before the second.
  if apt-cache show --no-all-versions "$@" >/dev/null 2>&1 &&
    "${apt_get[@]}" install --no-install-recommends "$@"; then
    return
  fi
  "${apt_get[@]}" update ||
    fail "apt-get update failed; check the network and /etc/apt/sources.list"
  "${apt_get[@]}" install --no-install-recommends "$@" ||
    fail "apt-get could not install: $*; its message is above"
}

main() {
  [[ $# -gt 0 ]] || { usage >&2; exit 2; }
  local wanted=()
  local group
  for group in "$@"; do
    case "$group" in
      build) wanted+=("${build_packages[@]}") ;;
      test) wanted+=("${test_packages[@]}") ;;
      text) wanted+=("${text_packages[@]}") ;;
      nightly) wanted+=("${nightly_packages[@]}") ;;
      golden) wanted+=("${golden_packages[@]}") ;;
      bench) wanted+=("${bench_packages[@]}") ;;
      -h | --help) usage; exit 0 ;;
      *) echo "install.sh: unknown group '$group'" >&2; usage >&2; exit 2 ;;
    esac
  done
  [[ "${SINKFORGE_SKIP_INSTALL:-}" != 1 ]] || exit 0

  if ! is_debian_12 || ! command -v dpkg-query >/dev/null; then
    echo "install.sh: this is not Debian 12, whose package names and versions the build is made" >&2
    echo "for. Install what corresponds to these packages by hand, then set" >&2
    echo "SINKFORGE_SKIP_INSTALL=1 and start again:" >&2
    printf '  %s\n' "${wanted[@]}" | sort -u >&2
    exit 2
  fi

  # One dpkg-query for all of them; only where it finds a gap is each package asked for.
  local states
  states="$(dpkg-query -W -f='${db:Status-Abbrev}\n' "${wanted[@]}" 2>/dev/null)" || states=gap
  if ! grep -qv '^[ih]i $' <<<"$states"; then exit 0; fi
  local missing=() package
  mapfile -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)  # Groups overlap.
  for package in "${wanted[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || exit 0
  echo "install.sh: installing ${#missing[@]} Debian packages: ${missing[*]}"
  install_packages "${missing[@]}"
  for package in "${missing[@]}"; do
    is_installed "$package" || fail "$package is still not installed after apt-get"
  done
}

main "$@"
