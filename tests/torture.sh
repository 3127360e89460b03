#!/usr/bin/env bash
# The real binary under faults, for two minutes or as long as is asked for: see
# torture/torture.py (--hours N, --seed S). Needs a C compiler, Python and the bridge's
# binary (PEPAY_BRIDGE_BINARY, else the one of `cargo run --release`).
set -euo pipefail
cd "$(dirname "$0")/.."

bridge=${PEPAY_BRIDGE_BINARY:-target/release/pepay-bridge}
[ -x "$bridge" ] || cargo build --release --locked
mkdir -p target/ci
faults=$PWD/target/ci/faults.so
cc -shared -fPIC -O2 -Wall -Wextra -o "$faults" tests/torture/faults.c -ldl
exec python3 tests/torture/torture.py --bridge "$(realpath "$bridge")" --faults "$faults" "$@"
