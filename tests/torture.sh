#!/usr/bin/env bash
# Tests the real binary under faults, for two minutes or for the time in the arguments: see
# torture/torture.py (--hours N, --seed S, --postgres). Needs a C compiler, Python, and PostgreSQL for
# --postgres. PEPAY_BRIDGE_BINARY names a binary that is built already; without it, a release is built.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/bridge.sh
. tests/bridge.sh

find_binary
build_library tests/torture/faults.c
export PYTHONPATH=tests
exec python3 tests/torture/torture.py --bridge "$binary" --faults "$library" "$@"
