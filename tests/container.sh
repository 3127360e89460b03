#!/usr/bin/env bash
# Builds the image with the unchanged Dockerfile and tests it with podman and the shipped compose file:
# user, root file system, health check, secrets and their rotation, a delivery by both sources, stop,
# kill, a new container on an old volume, a second one, the system's root certificates. The base images
# are stand-ins that tests/container/bases.sh makes.
#
# Needs root, Debian 12, buildah, podman with runc or crun, and the crates, in cargo's cache or from the
# registry. If one of these is missing, the script says so and exits 0. PEPAY_BRIDGE_BINARY names a
# binary that is built already; then the first stage of the Dockerfile, which compiles, is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/skip.sh
. tests/skip.sh
# shellcheck source=tests/bridge.sh
. tests/bridge.sh

fail() {
  printf 'container: FAILED: %s\n' "$*" >&2
  [ -z "${bridge:-}" ] || podman logs "$bridge" 2>&1 | tail -n 40 >&2 || true
  exit 1
}
pass() { printf 'container: ok: %s\n' "$*"; }
equal() { # WHAT EXPECTED ACTUAL
  [ "$2" = "$3" ] || fail "$1: '$3' instead of '$2'"
  pass "$1: ${3:-none}"
}
# until_true SECONDS COMMAND...: repeats the command until it succeeds. The image gives no event to wait for.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

check_named_binary
[ "$(uname -s)" = Linux ] || skip unavailable "the container image" "not Linux"
[ "$(id -u)" = 0 ] || skip unavailable "the container image" "not root"
grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release 2>/dev/null || skip unavailable "the container image" "not Debian 12, whose packages make the stand-in bases"
for tool in buildah podman nsenter apt-get dpkg-deb python3 cargo rustc curl openssl; do
  command -v "$tool" >/dev/null || skip installable "the container image" "$tool is missing"
done
# runc is preferred: it also works if the machine mounts both versions of cgroups.
runtime=$(command -v runc || command -v crun) || skip installable "the container image" "runc and crun are missing"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/pepay-bridge-container.XXXXXX")
cleanup() {
  # In this order: the bridges use the network of the last one.
  for name in ${names[@]+"${names[@]}"}; do podman rm --force --time 0 "$name" >/dev/null 2>&1 || true; done
  [ -z "${replicas_project:-}" ] || podman network rm --force "${replicas_project}_default" >/dev/null 2>&1 || true
  podman image umount --all >/dev/null 2>&1 || true
  buildah rm --all >/dev/null 2>&1 || true
  [ -z "${https:-}" ] || kill "$https" 2>/dev/null || true
  umount "$work/storage/overlay" 2>/dev/null || true
  rm -rf --one-file-system "$work" || true
}
trap cleanup EXIT

# The test has its own storage and does not use the images of the machine. The cargo build in the
# container is kept for the next run.
cache=$PWD/target/container
mkdir -p "$cache"
cat >"$work/storage.conf" <<TOML
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
TOML
# The limits are low: those of podman need a capability that a CI machine may not have.
cat >"$work/containers.conf" <<TOML
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=1024:1024"]
[engine]
runtime = "$(basename "$runtime")"
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "$work/libpod"
[network]
network_config_dir = "$work/networks"
TOML
export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf
export TMPDIR=$cache BUILDAH_ISOLATION=chroot DISABLE_HC_SYSTEMD=true
probe=$(buildah from scratch 2>&1) || {
  sed -i 's/"overlay"/"vfs"/' "$work/storage.conf"
  probe=$(buildah from scratch 2>&1) || skip unavailable "the container image" "buildah cannot make a container here: $probe"
}
buildah rm "$probe" >/dev/null

# shellcheck source=tests/container/bases.sh
. tests/container/bases.sh
fetch_bases || skip unavailable "the container image" "Debian's packages are out of reach"
make_builder
make_runtime
probe=$(buildah from --pull-never "$builder_name")
answer=$(buildah run "$probe" -- true 2>&1) || skip unavailable "the container image" "buildah cannot run a command here: $answer"
buildah rm "$probe" >/dev/null
loader=$(ldd /bin/true | grep -o '/lib[^ ]*ld-linux[^ ]*')
answer=$(podman run --rm --network none --entrypoint "$loader" "$runtime_name" --version 2>&1) ||
  skip unavailable "the container image" "podman cannot run a container here: $answer"
pass "the stand-in bases are made and run"

compose_version=1.6.0
tools=$PWD/target/ci
[ -x "$tools/venv/bin/pip" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet "podman-compose==$compose_version"
"$tools/venv/bin/python" tests/container/shipped.py docker-compose.yml Dockerfile || fail "a shipped file"

commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
source=https://git.example.com/pepay-bridge created=2026-01-01T00:00:00Z
arguments=(--pull-never --format docker --layers=false --build-arg PEPAY_BRIDGE_COMMIT="$commit"
  --build-arg PEPAY_BRIDGE_SOURCE="$source" --build-arg PEPAY_BRIDGE_CREATED="$created"
  --tag localhost/pepay-bridge:test)
if [ -n "${PEPAY_BRIDGE_BINARY:-}" ]; then
  mkdir -p "$work/context/image/data" "$work/context/image/doc"
  strip -o "$work/context/image/pepay-bridge" "$PEPAY_BRIDGE_BINARY"
  deploy/image/licences.sh >"$work/context/image/doc/THIRD-PARTY-LICENCES.txt"
  cp LICENSE-* "$work/context/image/doc"
  { grep '^ARG RUNTIME=' Dockerfile && printf 'FROM scratch AS build\nCOPY image /image\n' && sed -n '/^# No shell/,$p' Dockerfile; } >"$work/context/Dockerfile"
  buildah build "${arguments[@]}" "$work/context"
else
  cargo vendor --quiet --locked --versioned-dirs "$work/vendor" >/dev/null
  buildah build --volume "$(rustc --print sysroot):/usr/local/rust:ro" --volume "$work/vendor:/vendor:ro" "${arguments[@]}" .
fi
image=localhost/pepay-bridge:test

inspect() { podman image inspect --format "$1" "$image"; }
equal "user" 65532:65532 "$(inspect '{{.Config.User}}')"
equal "entry point" '[/usr/local/bin/pepay-bridge] [run]' "$(inspect '{{.Config.Entrypoint}} {{.Config.Cmd}}')"
equal "stop signal" SIGTERM "$(inspect '{{.Config.StopSignal}}')"
equal "health check" '[CMD /usr/local/bin/pepay-bridge health --intake]' "$(inspect '{{.HealthCheck.Test}}')"
equal "version label" "$(cargo pkgid | sed 's/.*[#@]//')" "$(inspect '{{index .Labels "org.opencontainers.image.version"}}')"
equal "revision label" "$commit" "$(inspect '{{index .Labels "org.opencontainers.image.revision"}}')"
equal "source label" "$source" "$(inspect '{{index .Labels "org.opencontainers.image.source"}}')"
equal "created label" "$created" "$(inspect '{{index .Labels "org.opencontainers.image.created"}}')"
equal "volume" 'map[/data:{}]' "$(inspect '{{.Config.Volumes}}')"
equal "interval of the health check" 10s "$(inspect '{{.HealthCheck.Interval}}')"

root=$(podman image mount "$image")
shells=$(find "$root" \( -name '*sh' -o -name busybox -o -name toybox \) -perm /111 \( -type f -o -type l \))
equal "shells in the image" "" "$shells"
grep -q 'contains these 2[0-9][0-9] crates' "$root/usr/share/doc/pepay-bridge/THIRD-PARTY-LICENCES.txt" ||
  fail "the licences of the crates are not in the image"
[ -s "$root/usr/share/doc/pepay-bridge/LICENSE-MIT" ] || fail "the licence is not in the image"
pass "licences are in the image"
podman image umount "$image" >/dev/null
total=$(inspect '{{.Size}}')
base=$(podman image inspect --format '{{.Size}}' "$runtime_name")
printf 'container: size: %d kB in all: %d kB ours, %d kB of the stand-in base\n' \
  $((total / 1000)) $(((total - base) / 1000)) $((base / 1000))
[ "$total" -lt 60000000 ] || fail "the image has $total bytes, 60 MB are allowed"

# The shipped compose file starts the bridge, as an operator does. tests/container/compose.test.yml adds
# a simulated Pepay with a sample target. The bridge shares its loopback, so no port of the machine is used.
secrets=$work/secrets
mkdir "$secrets"
webhook_secret="container-test-secret"
signing_secret="whsec_$(printf 'container-test-signing-key-0001' | base64)"
printf '%s\n' container-test-admin-token-1 >"$secrets/admin_token"
printf '%s\n' container-test-api-key >"$secrets/pepay_api_key"
printf '%s\n' "$webhook_secret" >"$secrets/pepay_webhook_secrets"
printf '%s\n' "$signing_secret" >"$secrets/orders_signing_secret"
# Owner and permissions are those of docs/container.md.
chown -R 65532 "$secrets" && chmod -R u=rX,go= "$secrets"
cat >"$work/env" <<ENV
PEPAY_BRIDGE_IMAGE=$image
PEPAY_API_URL=http://127.0.0.1:8088
ORDERS_URL=http://127.0.0.1:8000/events
SECRETS_DIR=$secrets
TEST_API_KEY=container-test-api-key
TEST_WEBHOOK_SECRET=$webhook_secret
TEST_SIGNING_SECRET=$signing_secret
ENV
project=pepay-bridge-test bridge=pepay-bridge-test_bridge_1 pepay=pepay-bridge-test_pepay_1
# Removed in this order.
names=(pepay-bridge-second pepay-bridge-roots pepay-bridge-folder "$bridge" "$pepay")
compose() {
  "$tools/venv/bin/podman-compose" --in-pod false --project-name "$project" --env-file "$work/env" \
    --file docker-compose.yml --file tests/container/compose.test.yml "$@" >"$work/compose.log" 2>&1 ||
    fail "compose $*: $(tail -n 20 "$work/compose.log")"
}
compose up --detach --no-build pepay
in_network=(nsenter --net --target "$(podman inspect --format '{{.State.Pid}}' "$pepay")")
compose up --detach --no-build bridge

send() { # SECRET EVENT_ID: prints status and body of the response
  "${in_network[@]}" python3 tests/container/webhook.py http://127.0.0.1:8080/webhooks/pepay "$@"
}
fetch() { # URL [TOKEN]
  "${in_network[@]}" curl --silent --show-error --fail --max-time 5 ${2:+--header "authorization: Bearer $2"} "$1"
}
show() { # URL KEY...: prints one value of a JSON response
  # shellcheck disable=SC2016 # Python's, not the shell's
  fetch "$1" | python3 -c 'import functools, json, sys
step = lambda value, key: value[int(key) if isinstance(value, list) else key]
print(functools.reduce(step, sys.argv[1:], json.load(sys.stdin)))' "${@:2}"
}
shows() { # EXPECTED URL KEY...
  [ "$1" = "$(show "${@:2}")" ]
}
is_healthy() { podman healthcheck run "$bridge"; }
ledger=http://127.0.0.1:8000/ledger admin=http://127.0.0.1:9090

until_true 30 is_healthy || fail "not healthy after 30 seconds"
pass "it becomes healthy by its own health check, with the secrets as files"
bridge_pid=$(podman inspect --format '{{.State.Pid}}' "$bridge")
equal "uid in the container" 65532 "$(awk '$1 == "Uid:" { print $2 }' "/proc/$bridge_pid/status")"
equal "capabilities" 0000000000000000 "$(awk '$1 == "CapEff:" { print $2 }' "/proc/$bridge_pid/status")"
equal "no new privileges" 1 "$(awk '$1 == "NoNewPrivs:" { print $2 }' "/proc/$bridge_pid/status")"
equal "root file system" ro "$(awk '$5 == "/" { split($6, flags, ","); print flags[1] }' "/proc/$bridge_pid/mountinfo")"
equal "secrets" ro "$(awk '$5 == "/run/secrets" { split($6, flags, ","); print flags[1] }' "/proc/$bridge_pid/mountinfo")"
equal "memory limit" 536870912 "$(podman inspect --format '{{.HostConfig.Memory}}' "$bridge")"
equal "limit of processes" 128 "$(podman inspect --format '{{.HostConfig.PidsLimit}}' "$bridge")"
equal "owner of the database" 65532 "$(stat --format %u "/proc/$bridge_pid/root/data/pepay-bridge.db")"

equal "answer to a webhook" '200 {"ok":true,"duplicate":false}' "$(send "$webhook_secret" evt_1)"
equal "answer to its repetition" '200 {"ok":true,"duplicate":true}' "$(send "$webhook_secret" evt_1)"
equal "status of a forged webhook" 400 "$(send forged evt_2 | cut -d' ' -f1)"
until_true 30 shows 1 "$ledger" totals acknowledged || fail "the target got nothing within 30 seconds"
equal "event at the target" evt_1 "$(show "$ledger" deliveries 0 id)"

"${in_network[@]}" curl --silent --show-error --fail --max-time 5 --data '{"count": 100}' \
  http://127.0.0.1:8088/_simulator/play >/dev/null
received() { # SOURCE: prints the number of copies that arrived by it
  fetch "$admin/metrics" "$(cat "$secrets/admin_token")" |
    sed -n "s/^pepay_bridge_events_received_total{source=\"$1\"} //p"
}
has_received() { # COPIES SOURCE
  [ "$(received "$2")" -ge "$1" ]
}
# The stream subscribes to orders and invoices only, so it does not bring all of the 100.
until_true 60 has_received 200 webhook || fail "$(received webhook) of 200 copies came by webhook in 60 seconds"
until_true 60 has_received 50 stream || fail "$(received stream) copies came by stream in 60 seconds"
pass "events came by both sources"
until_true 60 shows 101 "$ledger" totals unique ||
  fail "the target has $(show "$ledger" totals unique) of 101 events after 60 seconds"
pass "every event is at the target"
equal "events that the target got again" 0 "$(show "$ledger" totals repeated)"

# A rotation as in docs/operations.md: a new file is renamed over the old one.
allows() { fetch "$admin/status" "$1"; }
allows container-test-admin-token-1 >/dev/null || fail "the admin token is refused"
rotate() { # TOKEN
  printf '%s\n' "$1" >"$secrets/new"
  chown 65532 "$secrets/new" && chmod 0400 "$secrets/new"
  mv "$secrets/new" "$secrets/admin_token"
}
rotate container-test-admin-token-2
podman kill --signal HUP "$bridge" >/dev/null
until_true 20 allows container-test-admin-token-2 || fail "the new token is refused after mv and SIGHUP"
! allows container-test-admin-token-1 >/dev/null 2>&1 || fail "the old token is still taken after mv and SIGHUP"
podman logs "$bridge" >"$work/bridge.log" 2>&1
grep -q '"changed_files":"server.admin_token_file"' "$work/bridge.log" || fail "the log does not name the rotated file"
pass "a secret that is rotated by mv and SIGHUP is in effect, and named in the log"
said=$(podman exec "$bridge" /usr/local/bin/pepay-bridge reload) || fail "reload: $said"
equal "files that reload names" 4 "$(grep -c '^read  ' <<<"$said")"
! grep -q warning <<<"$said" || fail "reload warns: $said"
# A secret that is mounted as a single file should be avoided, and is warned of.
said=$(podman run --rm --network none --volume "$secrets/pepay_webhook_secrets:/secret:ro" \
  --env PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS_FILE=/secret --env PEPAY_BRIDGE__TARGETS__ORDERS__URL=http://127.0.0.1:9/ \
  "$image" check 2>&1 >/dev/null)
grep -q '^warning: webhooks.default.secrets_file: is mounted as a single file' <<<"$said" ||
  fail "a secret that is mounted alone is not warned of: $said"
pass "a secret that is mounted alone is warned of"

# A second bridge on the same volume.
volume=$(podman inspect --format '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}' "$bridge")
[ -n "$volume" ] || fail "the database is on no volume"
webhooks_only=(--env PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS="$webhook_secret"
  --env PEPAY_BRIDGE__TARGETS__ORDERS__URL=http://127.0.0.1:9/)
code=0
said=$(podman run --name pepay-bridge-second --network none --volume "$volume:/data" "${webhooks_only[@]}" "$image" 2>&1) || code=$?
equal "exit code of a second bridge on the same volume" 1 "$code"
grep -qi 'lock\|another' <<<"$said" || fail "the second bridge does not say why it ends: $said"

# The bridge is killed and started again.
podman kill --signal KILL "$bridge" >/dev/null
podman wait "$bridge" >/dev/null
podman start "$bridge" >/dev/null
until_true 30 is_healthy || fail "not healthy again after SIGKILL"
equal "answer to the first webhook after SIGKILL" '200 {"ok":true,"duplicate":true}' "$(send "$webhook_secret" evt_1)"

# The bridge is stopped within the grace period of compose and removed. A new one starts on the old volume.
began=$SECONDS
compose stop bridge
equal "exit code after a stop" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$bridge")"
[ $((SECONDS - began)) -lt 30 ] || fail "the stop took $((SECONDS - began)) s"
podman rm "$bridge" >/dev/null
compose up --detach --no-build bridge
until_true 30 is_healthy || fail "a new container on the old volume is not healthy"
equal "answer to the first webhook in a new container" '200 {"ok":true,"duplicate":true}' "$(send "$webhook_secret" evt_1)"
equal "events that the target got again in all" 0 "$(show "$ledger" totals repeated)"
compose stop bridge
equal "exit code after the second stop" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$bridge")"

# The bridge trusts the root certificates of the system, and no others. With the test's root in their
# place it reaches a target whose certificate is by that root; without it, it does not.
mkdir "$work/tls"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=test-root \
  -addext basicConstraints=critical,CA:TRUE -keyout "$work/tls/root.key" -out "$work/tls/root.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
  -keyout "$work/tls/key.pem" -out "$work/tls/request.pem" 2>/dev/null
openssl x509 -req -in "$work/tls/request.pem" -CA "$work/tls/root.pem" -CAkey "$work/tls/root.key" -CAcreateserial -days 1 \
  -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n') -out "$work/tls/cert.pem" 2>/dev/null
chmod 755 "$work/tls" && chmod 644 "$work/tls/root.pem"
"${in_network[@]}" openssl s_server -quiet -accept 127.0.0.1:8443 -cert "$work/tls/cert.pem" -key "$work/tls/key.pem" \
  >/dev/null 2>&1 </dev/null &
https=$!
reach() { # OPTION...: prints the line of doctor about a target with that certificate
  podman run --rm --network "container:$pepay" "$@" --env PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS="$webhook_secret" \
    --env PEPAY_BRIDGE__TARGETS__ORDERS__URL=https://127.0.0.1:8443/ "$image" doctor 2>/dev/null | grep 'target orders'
}
said=$(reach --volume "$work/tls/root.pem:/etc/ssl/certs/ca-certificates.crt:ro" || true)
[[ $said == ok* ]] || fail "a root certificate of the system is not trusted: $said"
said=$(reach || true)
[[ $said == FAILED* ]] || fail "an unknown root is trusted: $said"
pass "the system's root certificates are trusted, and no other"

# A folder of the host that belongs to root.
mkdir "$work/folder"
code=0
said=$(podman run --name pepay-bridge-folder --network none --volume "$work/folder:/data" "${webhooks_only[@]}" "$image" 2>&1) || code=$?
equal "exit code with a folder of root's" 1 "$code"
grep -q '65532' <<<"$said" || fail "the log does not name the user that the folder has to belong to: $said"

version=$(podman run --rm --network none "$image" --version)
pass "--version: $version"
[ -n "${PEPAY_BRIDGE_BINARY:-}" ] || [[ $version == *"${commit:0:7}"* ]] || fail "--version does not name the commit $commit: $version"
code=0
podman run --rm --network none --read-only "$image" run >/dev/null 2>&1 || code=$?
equal "exit code without a configuration" 2 "$code"
code=0
podman run --rm --network none --read-only --read-only-tmpfs=false "$image" demo --events 20 >"$work/demo.log" 2>&1 || code=$?
equal "exit code of the demo with a read-only root" 0 "$code"

# shellcheck source=tests/container/replicas.sh
. tests/container/replicas.sh
printf 'container: all checks passed\n'
