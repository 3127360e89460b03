#!/usr/bin/env bash
# Three replicas of the real binary on a real PostgreSQL, under faults: see replicas/chaos.py
# (--seconds N, --seed S). Needs PostgreSQL (a cluster of its own in a temporary folder, on
# loopback), a C compiler, Python and the bridge's binary (PEPAY_BRIDGE_BINARY, else the one
# of `cargo run --release`).
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/skip.sh
. tests/skip.sh
# shellcheck source=tests/bridge.sh
. tests/bridge.sh
[ -n "$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null)" ] ||
  skip installable "several replicas" "PostgreSQL is not installed (Debian: apt-get install postgresql)"

find_binary
build_library tests/torture/faults.c
export PYTHONPATH=tests
exec python3 tests/replicas/chaos.py --bridge "$binary" --faults "$library" "$@"
