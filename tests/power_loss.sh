#!/usr/bin/env bash
# What a power cut leaves of a store: see power_loss/power_loss.py. Needs a C compiler, Python
# and the bridge's binary (PEPAY_BRIDGE_BINARY, else the one of `cargo run --release`).
set -euo pipefail
cd "$(dirname "$0")/.."

bridge=${PEPAY_BRIDGE_BINARY:-target/release/pepay-bridge}
[ -x "$bridge" ] || cargo build --release --locked
mkdir -p target/ci
recorder=$PWD/target/ci/recorder.so
cc -shared -fPIC -O2 -Wall -Wextra -o "$recorder" tests/power_loss/recorder.c -ldl -lpthread
for durability in full normal; do
  python3 tests/power_loss/power_loss.py --bridge "$(realpath "$bridge")" --recorder "$recorder" \
    --durability "$durability" "$@"
done
