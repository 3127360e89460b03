#!/usr/bin/env bash
# Checks the admin API of the real binary against its own OpenAPI document with schemathesis, which
# sends thousands of valid and invalid requests and compares each response with the document. The
# bridge has a simulated Pepay and targets that accept, refuse and do not exist, on loopback.
#
# PEPAY_BRIDGE_BINARY names a binary that is built already. EXAMPLES is the number of requests that are
# generated for each operation and phase, SEED the seed of the generator.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/bridge.sh
. tests/bridge.sh
find_binary

schemathesis=4.32.5
tools=$PWD/target/ci
[ -x "$tools/venv/bin/pip" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet "schemathesis==$schemathesis"

work=$(mktemp -d "${TMPDIR:-/tmp}/pepay-bridge-api.XXXXXX")
simulator='' bridge=''
cleanup() {
  local ended=$?
  for process in $bridge $simulator ${ports_PID:-}; do
    kill "$process" 2>/dev/null || true
  done
  wait
  [ "$ended" = 0 ] || tail -n 30 "$work"/*.log >&2
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  printf 'api: FAILED: %s\n' "$*" >&2
  exit 1
}

coproc ports { exec python3 tests/ports.py 5; }
read -r pepay public admin sample nobody <&"${ports[0]}"
token=token-of-the-api-test secret=secret-of-the-api-test

"$binary" simulator --listen "127.0.0.1:$pepay" --rate 100 --events 200 --target-listen "127.0.0.1:$sample" \
  --webhook-url "http://127.0.0.1:$public/webhooks/pepay" --webhook-secret "$secret" >"$work/simulator.log" 2>&1 &
simulator=$!
cat >"$work/bridge.toml" <<TOML
[server]
listen = "127.0.0.1:$public"
admin_listen = "127.0.0.1:$admin"
admin_token = "$token"
[store]
url = "sqlite://$work/bridge.db"
[pepay]
api_url = "http://127.0.0.1:$pepay"
api_key = "simulator-only-key"
[streams.commerce]
types = ["*"]
[webhooks.default]
secrets = ["$secret"]
[targets.taking]
url = "http://127.0.0.1:$sample/"
[targets.refusing]
url = "http://127.0.0.1:$pepay/nowhere"
dead_on = [404, 405]
[targets.absent]
url = "http://127.0.0.1:$nobody/"
TOML
"$binary" run --config "$work/bridge.toml" >"$work/bridge.log" 2>&1 &
bridge=$!

# Waits until deliveries of every kind exist, then saves their ids for schemathesis, and the document,
# which needs the token as well.
(cd "$work" && python3 - "http://127.0.0.1:$admin/api" "$token") <<'PYTHON'
import json, sys, time, urllib.request
from pathlib import Path

api, token = sys.argv[1:]
deadline = time.monotonic() + 60

def look(path):
    request = urllib.request.Request(f"{api}/{path}", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)

def ready():
    try:
        events = look("v1/overview")["store"]["events"]
        return events == 200 and all(look(f"v1/deliveries?state={state}&limit=1")["deliveries"] for state in ("delivered", "dead"))
    except OSError:
        return False

while not ready():
    if time.monotonic() > deadline:
        sys.exit("the events did not come through within 60 s")
    time.sleep(0.2)
ids = [event["id"] for event in look("v1/events?limit=5")["events"]]
Path("openapi.json").write_text(json.dumps(look("openapi.json")))
Path("schemathesis.toml").write_text(f"""
[auth.openapi.admin_token]
bearer = "{token}"

[dictionaries]
events = {{ values = {json.dumps(ids)} }}
targets = {{ values = ["taking", "refusing", "absent"] }}

[parameters]
"path.id" = {{ dictionary = "events", probability = 0.7 }}
"path.event_id" = {{ dictionary = "events", probability = 0.7 }}
"path.target" = {{ dictionary = "targets", probability = 0.7 }}
"path.name" = {{ dictionary = "targets", probability = 0.3 }}

# The response is endless: one event is enough.
[[operations]]
include-path = "/api/v1/live"
max-stream-events = 1
""")
PYTHON

(
  cd "$work"
  "$tools/venv/bin/schemathesis" run openapi.json --url "http://127.0.0.1:$admin" --checks all \
    --max-examples "${EXAMPLES:-40}" --seed "${SEED:-1}" --request-timeout 20 --continue-on-failure --no-color
)

python3 - "http://127.0.0.1:$public/healthz" <<'PYTHON' || fail "the bridge does not live any more"
import sys, urllib.request

urllib.request.urlopen(sys.argv[1], timeout=10)
PYTHON
! grep -q panicked "$work/bridge.log" || fail "a handler has panicked"
kill "$bridge"
wait "$bridge" || fail "the bridge did not stop as it should"
bridge=''
printf 'api: ok\n'
