#!/usr/bin/env bash
# Tests stores after power cuts: see power_loss/power_loss.py. Needs a C compiler and Python.
# PEPAY_BRIDGE_BINARY names a binary that is built already; without it, a release is built.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/bridge.sh
. tests/bridge.sh

find_binary
build_library tests/power_loss/recorder.c -lpthread
export PYTHONPATH=tests
for durability in full normal; do
  python3 tests/power_loss/power_loss.py --bridge "$binary" --recorder "$library" \
    --durability "$durability" "$@"
done
