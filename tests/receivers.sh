#!/usr/bin/env bash
# Tests the receivers of examples/receivers, each in its language, as targets of the real binary:
# events of all sizes up to 256 KiB, repeats, a database that fails for a while, forged signatures.
# The database is a PostgreSQL cluster in a temporary folder.
#
# PEPAY_BRIDGE_BINARY names a binary that is built already. A receiver whose language is not installed,
# or whose packages cannot be downloaded, is reported as skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/skip.sh
. tests/skip.sh
# shellcheck source=tests/bridge.sh
. tests/bridge.sh

tools=$PWD/target/ci/receivers
mkdir -p "$tools"
receivers=$PWD/examples/receivers

# Debian installs the programs of the server outside of the PATH.
PATH=$PATH:$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | sort -V | tail -n 1)
for tool in initdb pg_ctl createdb psql; do
  command -v "$tool" >/dev/null || skip installable "the receivers" "$tool is missing; Debian's package is postgresql"
done
command -v python3 >/dev/null || skip installable "the receivers" "python3 is missing"

find_binary

work=$(mktemp -d "${TMPDIR:-/tmp}/pepay-bridge-receivers.XXXXXX")
chmod 711 "$work"
processes=()
cleanup() {
  local ended=$?
  for process in ${processes[@]+"${processes[@]}"}; do kill "$process" 2>/dev/null || true; done
  [ ! -d "$work/cluster" ] || as_postgres pg_ctl --pgdata "$work/cluster" --mode immediate stop >/dev/null || true
  [ -z "${ports_PID:-}" ] || kill "$ports_PID" 2>/dev/null || true
  wait
  [ "$ended" = 0 ] || tail -n 30 "$work"/*.log >&2
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  printf 'receivers: FAILED: %s\n' "$*" >&2
  exit 1
}

# PostgreSQL refuses to run as root.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; else "$@"; fi
}

coproc ports { exec python3 tests/ports.py 9; }
# The variable with the name of a receiver is its port.
# shellcheck disable=SC2034
read -r public admin database python node4 node5 go rust php <&"${ports[0]}"

# Installs the packages of each language. A receiver without its packages is left out.
names=()
install() { # NAME COMMAND...
  local name=$1
  shift
  if "$@" >"$work/install-$name.log" 2>&1; then
    names+=("$name")
  else
    tail -n 3 "$work/install-$name.log"
    left_out unavailable "the receiver in $name" "its packages cannot be had or built here"
  fi
}
install_python() {
  [ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python"
  "$tools/python/bin/pip" install --quiet --requirement "$receivers/python/requirements.txt"
}
install_node() { # MAJOR VERSION OF EXPRESS
  mkdir -p "$tools/node$1"
  cp "$receivers/node/receiver.mjs" "$receivers/node/package.json" "$tools/node$1"
  (cd "$tools/node$1" && npm install --silent --no-audit --no-fund --no-save "express@$1")
}
install_go() {
  rm -rf "$tools/go"
  cp -r "$receivers/go" "$tools/go"
  (cd "$tools/go" && GOTOOLCHAIN=local GOFLAGS=-mod=mod timeout 300 go build -o receiver .)
}
install_rust() {
  cargo build --quiet --locked --manifest-path "$receivers/rust/Cargo.toml" --target-dir "$tools/rust"
}
install_php() {
  mkdir -p "$tools/php"
  cp "$receivers/php/receiver.php" "$receivers/php/composer.json" "$tools/php"
  (cd "$tools/php" && COMPOSER_ALLOW_SUPERUSER=1 timeout 300 composer install --quiet --no-interaction)
}
install python install_python
[ "${names[*]}" = python ] || fail "the driver of this test needs the packages of the receiver in Python"
install rust install_rust
if command -v npm >/dev/null; then
  install node4 install_node 4
  install node5 install_node 5
else
  left_out installable "the receivers in node" "npm is missing"
fi
if command -v go >/dev/null; then
  install go install_go
else
  left_out unavailable "the receiver in go" "go is missing, or older than 1.21 as Debian's"
fi
if command -v php >/dev/null && command -v composer >/dev/null; then
  install php install_php
else
  left_out unavailable "the receiver in php" "php or composer is missing"
fi

mkdir "$work/cluster"
[ "$(id -u)" != 0 ] || chown 65534:65534 "$work/cluster"
(cd / && as_postgres initdb --pgdata "$work/cluster" --username receiver --auth trust --no-sync >/dev/null)
cat >>"$work/cluster/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $database
unix_socket_directories = ''
fsync = off
CONF
# The ports are released: not every receiver can share a held port. The system gives none of them to a connection.
[ -z "${ports_PID:-}" ] || kill "$ports_PID" 2>/dev/null || true
[ -z "${ports_PID:-}" ] || wait "$ports_PID" 2>/dev/null || true
(cd / && as_postgres pg_ctl --pgdata "$work/cluster" --log "$work/cluster/log" --wait start >/dev/null)
for name in "${names[@]}"; do
  createdb --host 127.0.0.1 --port "$database" --username receiver "$name"
  psql --host 127.0.0.1 --port "$database" --username receiver --quiet --dbname "$name" \
    --file "$receivers/schema.sql" >/dev/null
done

secret=whsec_$(printf 'receivers-test-signing-key-00001' | base64)
start() { # NAME COMMAND...
  local name=$1
  shift
  # Without PHP_CLI_SERVER_WORKERS the built-in server of PHP takes one request at a time.
  env SIGNING_SECRET="$secret" PORT="${!name}" DATABASE_URL="postgresql://receiver@127.0.0.1:$database/$name" \
    DATABASE_DSN="pgsql:host=127.0.0.1;port=$database;dbname=$name;user=receiver" PHP_CLI_SERVER_WORKERS=4 \
    "$@" >"$work/$name.log" 2>&1 &
  processes+=("$!")
}
for name in "${names[@]}"; do
  case $name in
    python) start python "$tools/python/bin/gunicorn" --chdir "$receivers/python" --workers 1 --threads 16 \
      --bind "127.0.0.1:$python" receiver:app ;;
    node*) start "$name" node "$tools/$name/receiver.mjs" ;;
    go) start go "$tools/go/receiver" ;;
    rust) start rust "$tools/rust/debug/receiver" ;;
    php) start php php -S "127.0.0.1:$php" "$tools/php/receiver.php" ;;
  esac
done

targets=()
for name in "${names[@]}"; do targets+=("$name=${!name}"); done
"$tools/python/bin/python" tests/receivers/drive.py "$binary" "$work" "$public" "$admin" "$database" "$secret" "${targets[@]}"
printf 'receivers: ok: %s\n' "${names[*]}"
