#!/usr/bin/env bash
# Runs the tests that need a PostgreSQL server: the contract suite and the tests of that engine, once
# directly and, if pgbouncer is installed, once behind it in transaction mode. Starts a cluster in a
# temporary folder, on loopback, and deletes it. Arguments are passed to `cargo test` as filters.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/skip.sh
. tests/skip.sh

bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || skip installable PostgreSQL "it is not installed (Debian: apt-get install postgresql)"

folder=$(mktemp -d)
# Fixed ports could be in use: a closed connection of the tests keeps its port for a minute.
coproc ports { exec python3 tests/ports.py 2; }
read -r port pooler_port <&"${ports[0]}"
# PostgreSQL and PgBouncer refuse to run as root.
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
[ "$(id -u)" != 0 ] || chown postgres "$folder"
stop() {
  # The pid is in a file: the process is a grandchild if another user runs it.
  [ ! -e "$folder/pgbouncer.pid" ] || kill "$(cat "$folder/pgbouncer.pid")" 2>/dev/null || true
  as "$bin/pg_ctl" --pgdata "$folder/data" --mode immediate --wait stop >/dev/null 2>&1 || true
  rm -rf "$folder"
}
trap stop EXIT

as "$bin/initdb" --pgdata "$folder/data" --username postgres --auth trust --encoding UTF8 >/dev/null
as "$bin/pg_ctl" --pgdata "$folder/data" --wait --log "$folder/log" --options \
  "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 -c fsync=off" start >/dev/null

export TEST_POSTGRES=postgres://postgres@127.0.0.1:$port/postgres
run() { cargo test --locked --lib --features postgres-tests -- "${@:-store::engine::postgres}"; }

printf '\n=== on PostgreSQL, directly\n'
run "$@"

if command -v pgbouncer >/dev/null; then
  printf '\n=== on PostgreSQL, behind PgBouncer in transaction mode\n'
  cat >"$folder/pgbouncer.ini" <<INI
[databases]
postgres = host=127.0.0.1 port=$port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $pooler_port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 60
max_client_conn = 1000
logfile = $folder/pgbouncer.log
pidfile = $folder/pgbouncer.pid
INI
  # With auth_type any, the section of databases names the user of the server.
  sed -i "s/^postgres = .*/& user=postgres/" "$folder/pgbouncer.ini"
  as pgbouncer --quiet "$folder/pgbouncer.ini" &
  export TEST_POSTGRES_DIRECT=$TEST_POSTGRES
  export TEST_POSTGRES=postgres://postgres@127.0.0.1:$pooler_port/postgres
  for _ in $(seq 100); do
    reached=
    (exec 3<>"/dev/tcp/127.0.0.1/$pooler_port") 2>/dev/null && reached=yes && break
    sleep 0.1
  done
  if [ -z "$reached" ]; then
    printf 'PgBouncer does not listen on port %s; its log:\n' "$pooler_port" >&2
    cat "$folder/pgbouncer.log" >&2 || true
    exit 1
  fi
  run "$@"
else
  left_out installable "PostgreSQL behind a pooler" "pgbouncer is not installed"
fi

# The tests of the program, directly on the server.
export TEST_POSTGRES=postgres://postgres@127.0.0.1:$port/postgres
printf '\n=== the program on PostgreSQL\n'
# Two tests at a time: each runs several bridges, and limits the time of a take-over.
cargo test --locked --test it -- --ignored --test-threads 2 postgres
