#!/usr/bin/env bash
# Builds the shipped binary for arm64, and as a static one with musl, and runs it beside this machine's.
# Each plays the demo. Then it takes over a database from this machine's binary and hands it back: what
# one binary has stored, the other one delivers. arm64 runs under qemu.
#
# tests/platforms.sh [TARGET[=BINARY]...]: tests those targets. A BINARY is built already. Not part of
# .ci/run, since each build takes about as long as all of that.
#
# Needs x86-64, the targets of rustup, and Debian's packages gcc-aarch64-linux-gnu,
# libc6-dev-arm64-cross and qemu-user-static for arm64, musl-tools for musl. PEPAY_BRIDGE_BINARY names
# this machine's binary, if it is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/skip.sh
. tests/skip.sh
# shellcheck source=tests/bridge.sh
. tests/bridge.sh

find_binary
work=$(mktemp -d "${TMPDIR:-/tmp}/pepay-bridge-platforms.XXXXXX")
processes=()
cleanup() {
  local ended=$?
  for process in ${processes[@]+"${processes[@]}"}; do kill "$process" 2>/dev/null || true; done
  [ -z "${ports_PID:-}" ] || kill "$ports_PID" 2>/dev/null || true
  wait
  [ "$ended" = 0 ] || tail -n 30 "$work"/*.log >&2 || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  printf 'platforms: FAILED: %s\n' "$*" >&2
  exit 1
}
pass() { printf 'platforms: ok: %s\n' "$*"; }

coproc ports { exec python3 tests/ports.py 4; }
read -r pepay public admin target <&"${ports[0]}"
key=$(head -c 24 /dev/urandom | base64)
signing=whsec_$key

# until_equal EXPECTED COMMAND...: repeats the command until it prints that. The commands are those that
# an operator has, which do not wait.
until_equal() {
  local expected=$1 deadline=$((SECONDS + 120)) actual
  shift
  until actual=$("$@" 2>&1) && [ "$actual" = "$expected" ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$*: '$actual' instead of '$expected'"
    sleep 0.2
  done
}
ask() { # URL EXPRESSION: prints the value of the expression for the JSON document `it`.
  curl --silent --fail "$1" | python3 -c 'import json, sys; it = json.load(sys.stdin); print(eval(sys.argv[1]))' "$2"
}
orders() { ask "http://127.0.0.1:$admin/api/v1/targets" '[(one["paused"], one["backlog"]) for one in it["targets"]]'; }
acknowledged() { ask "http://127.0.0.1:$target/ledger" '(it["totals"]["unique"], it["totals"]["received"])'; }

cat >"$work/bridge.toml" <<TOML
[server]
listen = "127.0.0.1:$public"
admin_listen = "127.0.0.1:$admin"
[store]
url = "sqlite://$work/bridge.db"
[pepay]
api_key = "$key"
api_url = "http://127.0.0.1:$pepay"
[streams.commerce]
[webhooks.default]
secrets = ["$key"]
[targets.orders]
url = "http://127.0.0.1:$target/"
signing_secret = "$signing"
TOML

# bridge COMMAND...: runs a command of a bridge with this configuration.
bridge() { "${under_test[@]}" --config "$work/bridge.toml" "$@"; }
start() {
  # Not by the function, whose process would be that of a shell.
  "${under_test[@]}" --config "$work/bridge.toml" run >>"$work/bridge.log" 2>&1 &
  running=$!
  processes+=("$running")
}
stop() {
  kill "$running"
  wait "$running" || fail "the bridge has ended with $?"
}

# exchange OTHER...: this machine's binary, the other one and this one again take over one database. Each
# delivers what the one before has taken in while the target was paused.
exchange() {
  rm -f "$work"/bridge.db*
  "$binary" simulator --listen "127.0.0.1:$pepay" --api-key "$key" --webhook-url "http://127.0.0.1:$public/webhooks/pepay" \
    --webhook-secret "$key" --target-listen "127.0.0.1:$target" --target-secret "$signing" >"$work/simulator.log" 2>&1 &
  local simulator=$!
  processes+=("$simulator")

  under_test=("$binary")
  start
  until_equal "[(False, 0)]" orders
  take_in
  stop

  under_test=("$@")
  start
  deliver 50
  take_in
  stop

  under_test=("$binary")
  start
  deliver 100
  stop

  kill "$simulator"
  wait "$simulator"
}
take_in() {
  bridge targets pause orders >/dev/null
  curl --silent --show-error --fail --output /dev/null --data '{"count":50}' "http://127.0.0.1:$pepay/_simulator/play"
  until_equal "[(True, 50)]" orders
}
deliver() { # SUM: of the events that have reached the target by then
  until_equal "[(True, 50)]" orders
  bridge targets resume orders >/dev/null
  until_equal "[(False, 0)]" orders
  until_equal "($1, $1)" acknowledged
}

# build TARGET: builds the shipped binary and sets `built` to its path.
build() {
  case $1 in
    aarch64-unknown-linux-gnu)
      export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
      export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
      ;;
    x86_64-unknown-linux-musl) export CC_x86_64_unknown_linux_musl=musl-gcc ;;
    *) fail "$1 is not a target of this test" ;;
  esac
  CARGO_BUILD_TARGET=$1 deploy/image/build.sh
  built=target/$1/dist/pepay-bridge
}

# needs PART TOOL...: reports the part as left out if a tool is missing.
needs() {
  local part=$1 tool
  shift
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { left_out installable "$part" "$tool is missing" && return 1; }
  done
}

[ $# -gt 0 ] || set -- aarch64-unknown-linux-gnu x86_64-unknown-linux-musl
for argument in "$@"; do
  name=${argument%%=*}
  case $name in
    aarch64-*) runner=(qemu-aarch64-static -L /usr/aarch64-linux-gnu) tools=(aarch64-linux-gnu-gcc qemu-aarch64-static) ;;
    *) runner=() tools=(musl-gcc readelf) ;;
  esac
  needs "$name" "${tools[@]}" || continue
  if [ "$name" = "$argument" ]; then build "$name"; else built=${argument#*=}; fi
  if [[ $name = *-musl ]]; then
    readelf --wide --program-headers "$built" >"$work/headers.log"
    ! grep INTERP "$work/headers.log" || fail "$built is not static"
  fi
  under_test=(${runner[@]+"${runner[@]}"} "$built")
  bridge --version
  bridge check >"$work/check.log"
  bridge demo >"$work/demo.log" || fail "the demo on $name"
  exchange "${under_test[@]}"
  pass "$name: $(stat --format %s "$built") bytes; the demo, and a database in turns with this machine's binary"
done
