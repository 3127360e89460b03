#!/usr/bin/env bash
# Tests the page in headless Chromium on the real binary, with a simulated Pepay and targets on
# loopback. `tests/browser.sh screenshots` makes the screenshots of the README instead.
#
# PEPAY_BRIDGE_BINARY names a binary that is built already, CHROMIUM the browser. If Chromium,
# Node.js 20 or Python is missing, the script says so and exits 0.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=tests/skip.sh
. tests/skip.sh
# shellcheck source=tests/bridge.sh
. tests/bridge.sh

CHROMIUM=${CHROMIUM:-$(command -v chromium || true)}
[ -n "$CHROMIUM" ] || skip installable "the page in a browser" "chromium is missing"
for tool in node npm python3; do
  command -v "$tool" >/dev/null || skip installable "the page in a browser" "$tool is missing"
done
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || skip unavailable "the page in a browser" "Node.js is older than 20"

find_binary
PEPAY_BRIDGE_BINARY=$binary
export CHROMIUM PEPAY_BRIDGE_BINARY

cd tests/browser
npm ci --silent --no-audit --no-fund
case ${1:-} in
  "") exec node --test --test-timeout=600000 --test-concurrency=1 page.test.mjs pepay.test.mjs session.test.mjs ;;
  screenshots) exec node screenshots.mjs ;;
  *) printf 'usage: %s [screenshots]\n' "$0" >&2 && exit 2 ;;
esac
