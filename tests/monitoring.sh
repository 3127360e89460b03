#!/usr/bin/env bash
# Has promtool check and test the alert rules, and parse every query of the dashboard. Takes
# promtool from the PATH, or else out of Debian's package, which it unpacks into target/ci
# without installing it; where neither can be had, says so and is skipped.
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
    # Where this fails, the next step says what is missing.
    (cd "$tools" && { apt-get -qq download prometheus || { apt-get -qq update && apt-get -qq download prometheus; }; } &&
      dpkg-deb --extract prometheus_*.deb . && rm prometheus_*.deb) >"$tools/apt.log" 2>&1 || tail -n 5 "$tools/apt.log"
  fi
  if ! [ -x "$promtool" ]; then
    skip installable "the monitoring kit" "promtool is missing; Debian's package is prometheus"
  fi
fi

"$promtool" check rules "$kit/alerts.yml"
"$promtool" test rules "$kit/alerts.test.yml"

# As recording rules, which are JSON as much as YAML, the queries are parsed like any other.
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
