#!/usr/bin/env bash
# Builds the unchanged Dockerfile with buildah and checks the image with podman, without an
# image registry: the two base images are stand-ins made by tests/container/bases.sh.
#
# Needs root, Debian 12, buildah, podman with runc or crun, and cargo's registry (filled
# beforehand or within reach). Where that is missing it says so and exits 0.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  printf '\n*** SKIPPED: the container image was not tested: %s ***\n\n' "$*"
  exit 0
}
fail() {
  printf 'container: FAILED: %s\n' "$*" >&2
  podman logs bridge 2>&1 | tail -n 40 >&2 || true
  exit 1
}
pass() { printf 'container: ok: %s\n' "$*"; }
equal() { # WHAT EXPECTED ACTUAL
  [ "$2" = "$3" ] || fail "$1: '$3' instead of '$2'"
  pass "$1: ${3:-none}"
}
# until_true SECONDS COMMAND...: asks until the answer is yes; the image has nothing to wait on.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

[ "$(uname -s)" = Linux ] || skip "not Linux"
[ "$(id -u)" = 0 ] || skip "not root"
grep -q '^VERSION_CODENAME=bookworm$' /etc/os-release 2>/dev/null || skip "not Debian 12, whose packages make the stand-in bases"
for tool in buildah podman nsenter apt-get dpkg-deb python3 cargo rustc; do
  command -v "$tool" >/dev/null || skip "$tool is missing"
done
# runc first: it also runs where the machine mounts both generations of cgroups.
runtime=$(command -v runc || command -v crun) || skip "runc and crun are missing"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/pepay-bridge-container.XXXXXX")
cleanup() {
  # In this order: the bridge lives in the other's network.
  podman rm --force --time 0 bridge >/dev/null 2>&1 || true
  podman rm --force --time 0 pepay >/dev/null 2>&1 || true
  podman image umount --all >/dev/null 2>&1 || true
  buildah rm --all >/dev/null 2>&1 || true
  umount "$work/storage/overlay" 2>/dev/null || true
  rm -rf --one-file-system "$work" || true
}
trap cleanup EXIT

# A storage of its own: the machine's images are neither used nor touched. What cargo
# built in the container is kept for the next run.
cache=$PWD/target/container
mkdir -p "$cache"
cat >"$work/storage.conf" <<TOML
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
TOML
# Low limits: podman's own are high, and raising them takes a capability that a CI machine may lack.
cat >"$work/containers.conf" <<TOML
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=1024:1024"]
[engine]
runtime = "$(basename "$runtime")"
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "$work/libpod"
TOML
export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf
export TMPDIR=$cache BUILDAH_ISOLATION=chroot DISABLE_HC_SYSTEMD=true
probe=$(buildah from scratch 2>&1) || {
  sed -i 's/"overlay"/"vfs"/' "$work/storage.conf"
  probe=$(buildah from scratch 2>&1) || skip "buildah cannot make a container here: $probe"
}
buildah rm "$probe" >/dev/null

# shellcheck source=tests/container/bases.sh
. tests/container/bases.sh
fetch_bases || skip "Debian's packages are out of reach"
make_builder
make_runtime
probe=$(buildah from --pull-never "$builder_name")
answer=$(buildah run "$probe" -- true 2>&1) || skip "buildah cannot run a command here: $answer"
buildah rm "$probe" >/dev/null
loader=$(ldd /bin/true | grep -o '/lib[^ ]*ld-linux[^ ]*')
answer=$(podman run --rm --network none --entrypoint "$loader" "$runtime_name" --version 2>&1) ||
  skip "podman cannot run a container here: $answer"
pass "the stand-in bases are made and run"

cargo vendor --quiet --locked --versioned-dirs "$work/vendor" >/dev/null
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
buildah build --pull-never --format docker --layers=false --build-arg PEPAY_BRIDGE_COMMIT="$commit" \
  --volume "$(rustc --print sysroot):/usr/local/rust:ro" --volume "$work/vendor:/vendor:ro" \
  --tag localhost/pepay-bridge:test .
image=localhost/pepay-bridge:test

inspect() { podman image inspect --format "$1" "$image"; }
equal "user" 65532:65532 "$(inspect '{{.Config.User}}')"
equal "entry point" '[/usr/local/bin/pepay-bridge] [run]' "$(inspect '{{.Config.Entrypoint}} {{.Config.Cmd}}')"
equal "stop signal" SIGTERM "$(inspect '{{.Config.StopSignal}}')"
equal "health check" '[CMD /usr/local/bin/pepay-bridge health --intake]' "$(inspect '{{.HealthCheck.Test}}')"
equal "version label" "$(cargo pkgid | sed 's/.*[#@]//')" "$(inspect '{{index .Labels "org.opencontainers.image.version"}}')"
equal "revision label" "$commit" "$(inspect '{{index .Labels "org.opencontainers.image.revision"}}')"

root=$(podman image mount "$image")
shells=$(find "$root" \( -name '*sh' -o -name busybox -o -name toybox \) -perm /111 \( -type f -o -type l \))
equal "shells in the image" "" "$shells"
podman image umount "$image" >/dev/null
total=$(inspect '{{.Size}}')
base=$(podman image inspect --format '{{.Size}}' "$runtime_name")
printf 'container: size: %d kB in all: %d kB ours, %d kB of the stand-in base\n' \
  $((total / 1000)) $(((total - base) / 1000)) $((base / 1000))
[ "$total" -lt 60000000 ] || fail "the image has $total bytes, 60 MB are allowed"

# The bridge, and a stand-in for Pepay with a sample target, confined as in docker-compose.yml.
# They share a loopback of their own, entered from outside: nothing here can be in the way.
webhook_secret="container-test-secret"
signing_secret="whsec_$(printf 'container-test-signing-key-0001' | base64)"
container() { # NAME NETWORK OPTION...
  local name=$1 network=$2
  shift 2
  podman run --detach --name "$name" --network "$network" --read-only --read-only-tmpfs=false \
    --cap-drop all --security-opt no-new-privileges --memory 256m --pids-limit 128 \
    --health-interval disable "$@" >/dev/null
}
container pepay none --env PEPAY_SIMULATOR_API_KEY=container-test-key \
  --env PEPAY_SIMULATOR_WEBHOOK_SECRET="$webhook_secret" --env PEPAY_SIMULATOR_TARGET_SECRET="$signing_secret" \
  "$image" simulator --listen 127.0.0.1:8088 --webhook-url http://127.0.0.1:8080/webhooks/pepay --copies 2 \
  --target-listen 127.0.0.1:8000
container bridge container:pepay --volume bridge-data:/data \
  --env PEPAY_BRIDGE__PEPAY__API_URL=http://127.0.0.1:8088 \
  --env PEPAY_BRIDGE__PEPAY__API_KEY=container-test-key \
  --env PEPAY_BRIDGE__STREAMS__COMMERCE__TYPES='*' \
  --env PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS="$webhook_secret" \
  --env PEPAY_BRIDGE__TARGETS__ORDERS__URL=http://127.0.0.1:8000/events \
  --env PEPAY_BRIDGE__TARGETS__ORDERS__SIGNING_SECRET="$signing_secret" \
  "$image"

in_network=(nsenter --net --target "$(podman inspect --format '{{.State.Pid}}' pepay)")
send() { # SECRET EVENT_ID: prints status and body of the answer
  "${in_network[@]}" python3 tests/container/webhook.py http://127.0.0.1:8080/webhooks/pepay "$@"
}
show() { # URL KEY...: one value of a JSON answer
  # shellcheck disable=SC2016 # Python's, not the shell's
  "${in_network[@]}" python3 -c 'import functools, json, sys, urllib.request
answer = json.load(urllib.request.urlopen(sys.argv[1], timeout=5))
step = lambda value, key: value[int(key) if isinstance(value, list) else key]
print(functools.reduce(step, sys.argv[2:], answer))' "$@"
}
shows() { # EXPECTED URL KEY...
  [ "$1" = "$(show "${@:2}")" ]
}
ledger=http://127.0.0.1:8000/ledger

until_true 30 podman healthcheck run bridge || fail "not healthy after 30 seconds"
pass "it becomes healthy by its own health check"
bridge_pid=$(podman inspect --format '{{.State.Pid}}' bridge)
equal "uid in the container" 65532 "$(awk '$1 == "Uid:" { print $2 }' "/proc/$bridge_pid/status")"
equal "capabilities" 0000000000000000 "$(awk '$1 == "CapEff:" { print $2 }' "/proc/$bridge_pid/status")"
equal "root file system" ro "$(awk '$5 == "/" { split($6, flags, ","); print flags[1] }' "/proc/$bridge_pid/mountinfo")"

equal "answer to a webhook" '200 {"ok":true,"duplicate":false}' "$(send "$webhook_secret" evt_1)"
equal "answer to its repetition" '200 {"ok":true,"duplicate":true}' "$(send "$webhook_secret" evt_1)"
equal "status of a forged webhook" 400 "$(send forged evt_2 | cut -d' ' -f1)"
until_true 30 shows 1 "$ledger" totals acknowledged || fail "the target got nothing within 30 seconds"
equal "event at the target" evt_1 "$(show "$ledger" deliveries 0 id)"

"${in_network[@]}" python3 -c 'import urllib.request
urllib.request.urlopen("http://127.0.0.1:8088/_simulator/play", b"{\"count\": 100}", timeout=5)'
received() { # SOURCE: the copies that came by it
  "${in_network[@]}" python3 -c 'import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9090/metrics", timeout=5).read().decode())' |
    sed -n "s/^pepay_bridge_events_received_total{source=\"$1\"} //p"
}
has_received() { # COPIES SOURCE
  [ "$(received "$2")" -ge "$1" ]
}
for source in stream webhook; do
  until_true 60 has_received 200 $source || fail "$(received $source) of 200 copies came by $source in 60 seconds"
  pass "the copies of 100 events came by $source"
done
until_true 60 shows 101 "$ledger" totals unique ||
  fail "the target has $(show "$ledger" totals unique) of 101 events after 60 seconds"
pass "every event is at the target"
equal "events that the target got again" 0 "$(show "$ledger" totals repeated)"

podman stop --time 30 bridge >/dev/null
equal "exit code after SIGTERM" 0 "$(podman inspect --format '{{.State.ExitCode}}' bridge)"
podman start bridge >/dev/null
until_true 30 podman healthcheck run bridge || fail "not healthy again after a restart"
equal "answer to the first webhook after a restart" '200 {"ok":true,"duplicate":true}' "$(send "$webhook_secret" evt_1)"
podman stop --time 30 bridge >/dev/null
equal "exit code after the second SIGTERM" 0 "$(podman inspect --format '{{.State.ExitCode}}' bridge)"

version=$(podman run --rm --network none "$image" --version)
[[ $version == *"${commit:0:7}"* ]] || fail "--version does not name the commit $commit: $version"
pass "--version names the commit: $version"
code=0
podman run --rm --network none "$image" run >/dev/null 2>&1 || code=$?
equal "exit code without a configuration" 2 "$code"
printf 'container: all checks passed\n'
