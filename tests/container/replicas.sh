# shellcheck shell=bash
# Starts all services of docker-compose.replicas.yml: PostgreSQL, two bridges, the proxy.
# tests/container.sh sources this file and provides the image and functions. The images of PostgreSQL and
# Caddy are stand-ins made from Debian's packages; tests/container/replicas.test.yml adds a simulated Pepay.

: "${work:?}" "${tools:?}" "${image:?}" "${secrets:?}" "${webhook_secret:?}" "${signing_secret:?}"
replicas_part="the compose file of replicas as a whole"

# copy_programs ROOT PROGRAM...: copies programs of this machine, with the libraries that they load.
copy_programs() {
  local root=$1 program
  shift
  for program in "$@"; do
    { ldd "$program" 2>/dev/null || true; } | grep -o '/[^ ]*' || true
    printf '%s\n' "$program"
  done | sort -u | while read -r program; do
    install -D "$(realpath "$program")" "$root$program"
  done
}

# stand_in NAME ROOT CONFIG...: makes an image from a folder.
stand_in() {
  local name=$1 root=$2 container
  shift 2
  container=$(buildah from scratch)
  buildah copy --quiet "$container" "$root" / >/dev/null
  buildah config "$@" "$container"
  buildah commit --quiet --rm --format docker "$container" "$name" >/dev/null
}

# The stand-in has the parts of the image `postgres` that the compose file uses: variables, folder, user.
make_postgres() { # NAME FOLDER_OF_PROGRAMS
  local root=$work/postgres-root programs=$2
  copy_programs "$root" "$programs"/{initdb,pg_ctl,postgres,psql,pg_isready} "$programs"/../lib/*.so \
    /usr/bin/{bash,cat,chown,install,setpriv}
  mkdir -p "$root"/{bin,tmp,run,usr/share,usr/lib/locale}
  ln -s /usr/bin/bash "$root/bin/sh"
  chmod 1777 "$root/tmp"
  cp -r /usr/share/postgresql "$root/usr/share"
  cp -r /usr/share/zoneinfo "$root/usr/share"
  cp -r /usr/lib/locale/C.utf8 "$root/usr/lib/locale"
  mkdir "$root/etc"
  printf '%s\n' 'root:x:0:0:root:/:/bin/sh' 'postgres:x:999:999:postgres:/:/bin/sh' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'postgres:x:999:' >"$root/etc/group"
  cat >"$root/entry" <<'ENTRY'
#!/usr/bin/bash
set -eu
data=/var/lib/postgresql/data
install --directory --owner postgres --group postgres --mode 0700 "$data"
as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
if [ ! -s "$data/PG_VERSION" ]; then
  install --owner postgres --mode 0400 "$POSTGRES_PASSWORD_FILE" /tmp/password
  as initdb --pgdata "$data" --username "$POSTGRES_USER" --pwfile /tmp/password --auth-host scram-sha-256 \
    --auth-local trust --encoding UTF8 --locale C.UTF-8
  printf 'host all all all scram-sha-256\n' >>"$data/pg_hba.conf"
  as pg_ctl --pgdata "$data" --wait --options "-c listen_addresses= -c unix_socket_directories=/tmp" start
  as psql --host /tmp --username "$POSTGRES_USER" --dbname postgres --command "CREATE DATABASE $POSTGRES_DB"
  as pg_ctl --pgdata "$data" --wait stop
fi
exec setpriv --reuid postgres --regid postgres --clear-groups postgres -D "$data" \
  -c listen_addresses='*' -c unix_socket_directories=/tmp
ENTRY
  chmod 0755 "$root/entry"
  stand_in "$1" "$root" --env PATH="$programs:/usr/bin" --entrypoint '["/entry"]' --stop-signal SIGINT \
    --volume /var/lib/postgresql/data
}

make_caddy() { # NAME CADDY
  copy_programs "$work/caddy-root" "$2"
  mkdir -p "$work/caddy-root"/{etc,tmp,data,config}
  printf 'root:x:0:0:root:/:/\n' >"$work/caddy-root/etc/passwd"
  stand_in "$1" "$work/caddy-root" --env XDG_DATA_HOME=/data --env XDG_CONFIG_HOME=/config --cmd \
    "[\"$2\",\"run\",\"--config\",\"/etc/caddy/Caddyfile\",\"--adapter\",\"caddyfile\"]"
}

replicas() { # ARGUMENT...: runs compose with the arguments
  "$tools/venv/bin/podman-compose" --in-pod false --project-name "$replicas_project" --env-file "$work/replicas.env" \
    --file docker-compose.replicas.yml --file tests/container/replicas.test.yml "$@" >"$work/replicas.log" 2>&1 ||
    fail "compose of replicas: $*: $(tail -n 20 "$work/replicas.log")"
}
of() { printf '%s_%s_1' "$replicas_project" "$1"; } # SERVICE: prints the name of its container
is_well() { podman healthcheck run "$(of "$1")"; }
# inside SERVICE COMMAND...: runs the command in the network of the service, which resolves service names.
inside() {
  local pid
  pid=$(podman inspect --format '{{.State.Pid}}' "$(of "$1")")
  shift
  nsenter --net --target "$pid" "$@"
}
through_proxy() { inside pepay python3 tests/container/webhook.py "http://$proxy_address/webhooks/pepay" "$webhook_secret" "$1"; }
is_taken() { [[ $(through_proxy "$1") == "200 "* ]]; }
of_target() { # KEY: prints one of the totals of the target's ledger
  inside pepay curl --silent --show-error --fail --max-time 5 http://127.0.0.1:8000/ledger |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["totals"][sys.argv[1]])' "$1"
}
target_has() { [ "$(of_target unique)" = "$1" ]; }

replicas_as_a_whole() {
  local programs caddy answer service
  programs=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -n 1)
  [ -n "$programs" ] || { left_out installable "$replicas_part" "PostgreSQL is not installed" && return; }
  caddy=$(command -v caddy) || caddy=$work/caddy/usr/bin/caddy
  if [ ! -x "$caddy" ]; then
    (cd "$work" && apt-get -qq download caddy >/dev/null 2>&1 && dpkg-deb --extract caddy_*.deb caddy) ||
      { left_out unavailable "$replicas_part" "Debian's package of Caddy is out of reach" && return; }
  fi
  answer=$(podman network create "$replicas_project" 2>&1 &&
    podman run --rm --network "$replicas_project" "$image" --version 2>&1) ||
    { left_out unavailable "$replicas_part" "podman cannot make a network here: $(tail -n 1 <<<"$answer")" && return; }
  podman network rm "$replicas_project" >/dev/null
  make_postgres localhost/postgres:stand-in "$(dirname "$programs")"
  make_caddy localhost/caddy:stand-in "$caddy"
  printf '%s' container-test-password >"$secrets/postgres_password"
  printf '%s\n' "postgres://pepay_bridge:container-test-password@postgres:5432/pepay_bridge?sslmode=disable" >"$secrets/store_url"
  chown 65532 "$secrets"/* && chmod 0400 "$secrets"/*
  cat >"$work/replicas.env" <<ENV
PEPAY_BRIDGE_IMAGE=$image
POSTGRES_IMAGE=localhost/postgres:stand-in
CADDY_IMAGE=localhost/caddy:stand-in
PEPAY_API_URL=http://pepay:8088
ORDERS_URL=http://pepay:8000/events
SECRETS_DIR=$secrets
TEST_API_KEY=container-test-api-key
TEST_WEBHOOK_SECRET=$webhook_secret
TEST_SIGNING_SECRET=$signing_secret
ENV
  # In the order of depends_on: no timer runs the health checks here, so compose cannot wait for them.
  replicas up --detach --no-build --no-deps postgres pepay
  until_true 60 is_well postgres || fail "PostgreSQL is not healthy: $(podman logs "$(of postgres)" 2>&1 | tail -n 20)"
  replicas up --detach --no-build --no-deps bridge-1 bridge-2 proxy
  for service in bridge-1 bridge-2; do
    # `fail` shows the log of this container.
    # shellcheck disable=SC2034
    bridge=$(of "$service")
    until_true 60 is_well "$service" || fail "$service is not healthy"
  done
  proxy_address=$(podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(of proxy)")
  until_true 20 is_taken evt_1 || fail "no webhook passes the proxy: $(podman logs "$(of proxy)" 2>&1 | tail -n 5)"
  pass "PostgreSQL, two replicas and the proxy start by docker-compose.replicas.yml"
  equal "answer to a repetition, at whichever replica" '200 {"ok":true,"duplicate":true}' "$(through_proxy evt_1)"
  inside pepay curl --silent --show-error --fail --max-time 5 --data '{"count": 50}' http://127.0.0.1:8088/_simulator/play >/dev/null
  until_true 60 target_has 51 || fail "the target has $(of_target unique) of 51 events after 60 seconds"
  pass "every event is at the target"

  podman kill --signal KILL "$(of bridge-1)" >/dev/null
  until_true 10 is_taken evt_2 || fail "no webhook is taken after one of two replicas was killed"
  until_true 30 target_has 52 || fail "the target of a killed replica is not served by the other"
  pass "the other replica goes on after SIGKILL"
  podman start "$(of bridge-1)" >/dev/null
  until_true 60 is_well bridge-1 || fail "a replica that is started again is not healthy"

  replicas stop postgres
  ! is_taken evt_3 || fail "a webhook is taken while the database is away"
  podman start "$(of postgres)" >/dev/null
  until_true 60 is_taken evt_3 || fail "no webhook is taken after the database came back"
  until_true 30 target_has 53 || fail "the target has $(of_target unique) of 53 events"
  equal "events that the target got again" 0 "$(of_target repeated)"
  replicas stop
  for service in bridge-1 bridge-2 postgres; do
    equal "exit code of $service after a stop" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$(of "$service")")"
  done
}
replicas_project=pepay-bridge-replicas
for one in bridge-1 bridge-2 proxy postgres pepay; do names+=("$(of "$one")"); done
replicas_as_a_whole
