#!/usr/bin/env bash
# What a power cut leaves of a store: see power_loss/power_loss.py. Needs a C compiler, Python
# and the bridge's binary (PEPAY_BRIDGE_BINARY, else the one of `cargo run --release`).
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
