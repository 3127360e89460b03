#!/usr/bin/env bash
# Checks the files of deploy/: the systemd unit with the tools of systemd, the proxies with signed webhooks
# that pass them to the real binary, the rest against schemas. Caddy, nginx and promtool are found in the
# PATH, or else in Debian's packages, which are unpacked and not installed.
#
# PEPAY_BRIDGE_BINARY names a binary that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/skip.sh
. tests/skip.sh
# shellcheck source=tests/bridge.sh
. tests/bridge.sh
find_binary

tools=$PWD/target/ci
mkdir -p "$tools/deploy"
work=$(mktemp -d "${TMPDIR:-/tmp}/pepay-bridge-deploy.XXXXXX")
processes=()
cleanup() {
  local ended=$?
  for process in ${processes[@]+"${processes[@]}"} ${ports_PID:-}; do kill "$process" 2>/dev/null || true; done
  wait
  [ "$ended" = 0 ] || tail -n 30 "$work"/*.log >&2 || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() {
  printf 'deploy: FAILED: %s\n' "$*" >&2
  exit 1
}
pass() { printf 'deploy: ok: %s\n' "$*"; }

# tool NAME PATH PACKAGE...: prints the path of NAME. Unpacks Debian's packages if it is not installed.
tool() {
  local name=$1 path=$tools/deploy/$2
  shift 2
  command -v "$name" && return
  if ! [ -x "$path" ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    (cd "$tools/deploy" && { apt-get -qq download "$@" || { apt-get -qq update && apt-get -qq download "$@"; }; } &&
      for package in ./*.deb; do dpkg-deb --extract "$package" . && rm "$package"; done) >"$work/apt-$name.log" 2>&1 || true
  fi
  ! [ -x "$path" ] || printf '%s\n' "$path"
}

if command -v systemd-analyze >/dev/null; then
  # The manual and the program are not installed here.
  sed -e "s|/usr/local/bin/pepay-bridge|$binary|" -e '/^Documentation=/d' \
    deploy/systemd/pepay-bridge.service >"$work/pepay-bridge.service"
  said=$(systemd-analyze verify "$work/pepay-bridge.service" 2>&1) || fail "the unit: $said"
  [ -z "$said" ] || fail "the unit: $said"
  systemd-analyze security --offline=true --threshold=20 --no-pager "$work/pepay-bridge.service" >"$work/security.log" ||
    fail "the unit is exposed: $(tail -n 1 "$work/security.log")"
  pass "systemd unit: $(grep -o 'Overall exposure.*: [0-9.]*' "$work/security.log")"
  grace=$(sed -n 's/^TimeoutStopSec=//p' deploy/systemd/pepay-bridge.service)
  [ "$grace" -gt 25 ] || fail "systemd kills after $grace s, the bridge takes up to 25"
else
  left_out unavailable "the systemd unit" "systemd-analyze is missing: this is no machine of systemd"
fi

[ -x "$tools/venv/bin/pip" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet kubernetes-validate==1.36.0
"$tools/venv/bin/python" - deploy/kubernetes <<'PYTHON'
import pathlib, sys, kubernetes_validate, yaml

files = sorted(pathlib.Path(sys.argv[1]).rglob("*.y*ml"))
count = 0
for file in files:
    for document in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(document, "1.31", strict=True)
        count += 1
        for volume in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            assert not any("subPath" in mount for mount in volume.get("volumeMounts", [])), f"{file}: a file mounted alone"
print(f"deploy: ok: Kubernetes manifests: {count} documents of {len(files)} files are valid")
PYTHON
"$tools/venv/bin/python" - <<'PYTHON'
import json, pathlib, yaml

for file in sorted(pathlib.Path("deploy/grafana").rglob("*.yml")):
    assert yaml.safe_load(file.read_text())["apiVersion"] == 1, file
json.loads(pathlib.Path("docs/monitoring/dashboard.json").read_text())
print("deploy: ok: Grafana provisioning is YAML of version 1")
PYTHON

promtool=$(tool promtool usr/bin/promtool prometheus)
if [ -n "$promtool" ]; then
  mkdir "$work/prometheus"
  echo token-of-the-deploy-test >"$work/token"
  sed "s|/etc/prometheus/pepay-bridge-token|$work/token|" deploy/prometheus/prometheus.yml >"$work/prometheus/prometheus.yml"
  cp docs/monitoring/alerts.yml "$work/prometheus"
  "$promtool" check config "$work/prometheus/prometheus.yml" >"$work/promtool.log" 2>&1 || fail "the configuration of Prometheus"
  pass "Prometheus configuration with the alert rules"
else
  left_out installable "the configuration of Prometheus" "promtool is missing; Debian's package is prometheus"
fi

coproc ports { exec python3 tests/ports.py 5; }
read -r public admin caddy_port replicas_port nginx_port <&"${ports[0]}"
secret="secret of the deploy test"
cat >"$work/bridge.toml" <<TOML
[server]
listen = "127.0.0.1:$public"
admin_listen = "127.0.0.1:$admin"
[store]
url = "sqlite://$work/bridge.db"
[webhooks.default]
secrets = ["$secret"]
[targets.nobody]
url = "http://127.0.0.1:9/"
TOML
"$binary" run --config "$work/bridge.toml" 2>"$work/bridge.log" &
processes+=("$!")

through() { # NAME PORT
  python3 tests/deploy/through.py "https://localhost:$2" "$secret" || fail "webhooks through $1"
  pass "signed webhooks pass $1 byte for byte"
}

# The ports are released: not every proxy can share a held port. The system gives none of them to a connection.
[ -z "${ports_PID:-}" ] || kill "$ports_PID" 2>/dev/null || true
[ -z "${ports_PID:-}" ] || wait "$ports_PID" 2>/dev/null || true

caddy=$(tool caddy usr/bin/caddy caddy)
if [ -n "$caddy" ]; then
  {
    printf '{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n'
    sed -e "s|^pepay.example.com {|https://localhost:$caddy_port {\n\ttls internal|" \
      -e "s|127.0.0.1:8080|127.0.0.1:$public|" deploy/caddy/Caddyfile
  } >"$work/Caddyfile"
  export XDG_DATA_HOME=$work/caddy-data XDG_CONFIG_HOME=$work/caddy-config
  "$caddy" validate --adapter caddyfile --config "$work/Caddyfile" >"$work/caddy.log" 2>&1 || fail "the Caddyfile"
  "$caddy" run --adapter caddyfile --config "$work/Caddyfile" >>"$work/caddy.log" 2>&1 &
  processes+=("$!")
  through Caddy "$caddy_port"
  # One of the two bridges cannot be reached.
  {
    printf '{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n'
    sed -e "s|^{\$PUBLIC_SITE::80} {|https://localhost:$replicas_port {\n\ttls internal|" \
      -e "s|bridge-1:8080 bridge-2:8080|127.0.0.1:9 127.0.0.1:$public|" deploy/replicas/Caddyfile
  } >"$work/Caddyfile.replicas"
  "$caddy" validate --adapter caddyfile --config "$work/Caddyfile.replicas" >"$work/caddy-replicas.log" 2>&1 ||
    fail "the Caddyfile of several replicas"
  "$caddy" run --adapter caddyfile --config "$work/Caddyfile.replicas" >>"$work/caddy-replicas.log" 2>&1 &
  processes+=("$!")
  through "Caddy before a replica that is gone and one that is there" "$replicas_port"
else
  left_out installable "Caddy" "it is missing; Debian's package is caddy"
fi

nginx=$(tool nginx usr/sbin/nginx nginx)
if [ -n "$nginx" ] && command -v openssl >/dev/null; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl.log"
  mkdir "$work/nginx"
  {
    printf 'daemon off;\npid %s/nginx.pid;\nerror_log stderr;\n' "$work"
    # nginx runs as the user that starts it, in the temporary folder.
    [ "$(id -u)" != 0 ] || printf 'user root;\n'
    printf 'events {}\nhttp {\naccess_log off;\n'
    for kind in client_body proxy fastcgi uwsgi scgi; do printf '%s_temp_path %s;\n' "$kind" "$work/nginx/$kind"; done
    sed -e "s|127.0.0.1:8080|127.0.0.1:$public|" -e '/listen \[::\]/d' -e "s|listen 443|listen 127.0.0.1:$nginx_port|" \
      -e 's|pepay.example.com;|localhost;|' -e "s|/etc/letsencrypt.*fullchain.pem|$work/cert.pem|" \
      -e "s|/etc/letsencrypt.*privkey.pem|$work/key.pem|" deploy/nginx/pepay-bridge.conf
    printf '}\n'
  } >"$work/nginx.conf"
  "$nginx" -t -p "$work" -c "$work/nginx.conf" >"$work/nginx.log" 2>&1 || fail "the configuration of nginx"
  "$nginx" -p "$work" -c "$work/nginx.conf" >>"$work/nginx.log" 2>&1 &
  processes+=("$!")
  through nginx "$nginx_port"
else
  left_out installable "nginx" "nginx or openssl is missing"
fi
