#!/usr/bin/env bash
# Certificates for a fleet without a certificate authority of its own.
#
#   deploy/tls/make-certificates.sh FOLDER HOST[,HOST...]...
#
# makes FOLDER/ca.crt and FOLDER/ca.key where they are not there yet, and for every HOST (a name or
# an address that others reach it by, or the name of a person) FOLDER/HOST.crt and FOLDER/HOST.key,
# new ones each time. Several names of one machine are joined by commas; the first one names the
# files, and '*.' before a later one stands for any one label. Keep ca.key where no daemon runs: who
# has it may do everything.
set -euo pipefail

days_authority=3650
days=365

usage() { sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
[[ $# -ge 2 && "$1" != -* ]] || usage
fail() { echo "$1" >&2; exit "${2:-1}"; }
command -v openssl > /dev/null || fail "openssl is missing: apt-get install openssl"
folder="$1"
shift
for hosts in "$@"; do
  if [[ ! "$hosts" =~ ^[A-Za-z0-9.:_-]+(,(\*\.)?[A-Za-z0-9.:_-]+)*$ || "${hosts%%,*}" == ca ]]; then
    fail "'$hosts' is no name of a host" 2
  fi
done
umask 077
mkdir -p "$folder"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# What OpenSSL says is shown only where it fails.
quietly() { openssl "$@" 2> "$scratch/errors" || fail "$(cat "$scratch/errors")"; }
# A key, and what is made for it.
request() { quietly req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@"; }

if [[ ! -e "$folder/ca.crt" ]]; then
  request -x509 -days "$days_authority" -subj "/CN=SinkForge authority" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$scratch/ca.key" -out "$scratch/ca.crt"
  mv "$scratch/ca.key" "$scratch/ca.crt" "$folder/"
  echo "$folder/ca.crt: a new authority, for $days_authority days"
fi
[[ -r "$folder/ca.key" ]] || fail "$folder/ca.key is missing: it signs the others"

for hosts in "$@"; do
  IFS=, read -ra names <<< "$hosts"
  host="${names[0]}" alternatives=()
  for name in "${names[@]}"; do
    kind=DNS
    [[ "$name" =~ ^[0-9.]+$ || "$name" == *:* ]] && kind=IP
    alternatives+=("$kind:$name")
  done
  request -subj "/CN=$host" -keyout "$scratch/key" -out "$scratch/request"
  cat > "$scratch/extensions" << EXTENSIONS
subjectAltName = $(IFS=,; echo "${alternatives[*]}")
extendedKeyUsage = serverAuth, clientAuth
keyUsage = critical, digitalSignature
basicConstraints = critical, CA:FALSE
EXTENSIONS
  quietly x509 -req -in "$scratch/request" -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
    -days "$days" -extfile "$scratch/extensions" -out "$scratch/certificate"
  mv "$scratch/key" "$folder/$host.key"
  mv "$scratch/certificate" "$folder/$host.crt"
  echo "$folder/$host.crt: for ${hosts//,/, }, $days days"
done
