#!/usr/bin/env bash
# Checks and tests the alert rules with promtool, and parses every query of the dashboard. promtool is
# found in the PATH, or else in Debian's package, which is unpacked into target/ci and not installed.
# Without promtool the script says so and is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/skip.sh
. tests/skip.sh

kit=docs/monitoring
tools=$PWD/target/ci/prometheus
mkdir -p "$tools"

if hash promtool 2>/dev/null; then
  promtool=promtool
else
  promtool=$tools/usr/bin/promtool
  if ! [ -x "$promtool" ] && hash apt-get dpkg-deb 2>/dev/null; then
    # If this fails, the next check names what is missing.
    (cd "$tools" && { apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; } &&
      dpkg-deb --extract prometheus_*.deb . && rm prometheus_*.deb) >"$tools/apt.log" 2>&1 || tail -n 5 "$tools/apt.log"
  fi
  if ! [ -x "$promtool" ]; then
    skip installable "the monitoring kit" "promtool is missing; Debian's package is prometheus"
  fi
fi

"$promtool" check rules "$kit/alerts.yml"
"$promtool" test rules "$kit/alerts.test.yml"

# promtool parses queries in rule files only, so the queries become recording rules. JSON is valid YAML.
python3 - "$kit/dashboard.json" >"$tools/dashboard-queries.yml" <<'PYTHON'
import json, sys

dashboard = json.load(open(sys.argv[1]))
panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
queries = [target["expr"] for panel in panels for target in panel["targets"]]
queries += [one["expr"] for one in dashboard["annotations"]["list"] if "expr" in one]
values = {"$__rate_interval": "5m", "$instance": ".*", "$target": ".*"}
for variable, value in values.items():
    queries = [query.replace(variable, value) for query in queries]
rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
PYTHON
"$promtool" check rules "$tools/dashboard-queries.yml"
