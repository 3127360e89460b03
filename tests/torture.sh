#!/usr/bin/env bash
# The real binary under faults, for two minutes or as long as is asked for: see
# torture/torture.py (--hours N, --seed S, --postgres). Needs a C compiler, Python and the
# bridge's binary (PEPAY_BRIDGE_BINARY, else the one of `cargo run --release`), and PostgreSQL
# for --postgres.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/bridge.sh
. tests/bridge.sh

find_binary
build_library tests/torture/faults.c
export PYTHONPATH=tests
exec python3 tests/torture/torture.py --bridge "$binary" --faults "$library" "$@"
