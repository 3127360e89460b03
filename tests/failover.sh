#!/usr/bin/env bash
# Measures the failover to a cold standby as docs/operations.md describes it. A bridge that is backed up
# every few seconds is killed under load and its disk deleted; another one starts from the last backup.
# Prints how long no webhook was taken (RTO), how old the restored state was (RPO of the store), and the
# numbers of events lost and of events sent again.
#
# PEPAY_BRIDGE_BINARY names a binary that is built already. INTERVAL is the number of seconds between
# backups, ROUNDS the number of failovers.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/bridge.sh
. tests/bridge.sh

find_binary
work=$(mktemp -d "${TMPDIR:-/tmp}/pepay-bridge-failover.XXXXXX")
cleanup() {
  local ended=$?
  [ "$ended" = 0 ] || tail -n 20 "$work"/*.log >&2 || true
  [ -z "${ports_PID:-}" ] || kill "$ports_PID" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
coproc ports { exec python3 tests/ports.py 4; }
read -r pepay public admin target <&"${ports[0]}"
python3 tests/deploy/failover.py "$binary" "$work" "$pepay" "$public" "$admin" "$target" "${INTERVAL:-5}" "${ROUNDS:-3}"
