#!/usr/bin/env bash
# Tests three replicas of the real binary on a real PostgreSQL, under faults: see replicas/chaos.py
# (--seconds N, --seed S; --pooler [listening|polling] behind PgBouncer; --standby with a synchronous
# standby, --only fail_over for the loss of the primary alone; --standby behind with an asynchronous
# standby, --only fail_over_behind). Needs PostgreSQL, whose clusters are in a temporary folder and on
# loopback, a C compiler and Python. PEPAY_BRIDGE_BINARY names a binary that is built already; without
# it, a release is built.
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
