#!/usr/bin/env bash
# Three replicas of the real binary on a real PostgreSQL, under faults: see replicas/chaos.py
# (--seconds N, --seed S; --pooler [listening|polling] behind PgBouncer; --standby with a
# synchronous standby, --only fail_over to lose the primary alone). Needs PostgreSQL (clusters of
# its own in a temporary folder, on loopback), a C compiler, Python and the bridge's binary
# (PEPAY_BRIDGE_BINARY, else the one of `cargo run --release`).
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/skip.sh
. tests/skip.sh
# shellcheck source=tests/bridge.sh
. tests/bridge.sh
[ -n "$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null)" ] ||
  skip installable "several replicas" "PostgreSQL is not installed (Debian: apt-get install postgresql)"
case " $* " in *" --pooler"*)
  command -v pgbouncer >/dev/null ||
    skip installable "several replicas behind a pooler" "pgbouncer is not installed (Debian: apt-get install pgbouncer)" ;;
esac

find_binary
build_library tests/torture/faults.c
export PYTHONPATH=tests
exec python3 tests/replicas/chaos.py --bridge "$binary" --faults "$library" "$@"
