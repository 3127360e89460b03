#!/usr/bin/env bash
# Compares docs/dependencies.md with Cargo.toml and with the crates in the binary. Each direct dependency
# and each crate with two versions has a line there, and the number of crates is limited.
# `tests/dependencies.sh licences [--features FEATURES]` prints the licences of the crates in the binary.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  "") ;;
  licences) shift && exec deploy/image/licences.sh "$@" ;;
  *) printf 'usage: %s [licences [--features FEATURES]]\n' "$0" >&2 && exit 2 ;;
esac

most=250
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo metadata --locked --no-deps --format-version 1 >"$work/metadata.json"
for platform in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu; do
  for features in "" otlp; do
    cargo tree --locked --features "$features" --edges normal,no-proc-macro --target "$platform" --prefix none --format '{p}' |
      sed 's/ (.*//' | sort -u >"$work/$platform $features"
  done
done
deploy/image/licences.sh --features otlp >"$work/licences" || exit 1
[ "$(wc -c <"$work/licences")" -gt 100000 ]

python3 - "$work" "$most" docs/dependencies.md <<'PYTHON'
import json, pathlib, re, sys

work, most, page = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]).read_text()
parts = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
rows = {title: re.findall(r"^\| (`.*?) \|", text, re.M) for title, text in parts.items()}
named = {title: [name for row in found for name in re.findall(r"`([^`]+)`", row)] for title, found in rows.items()}
package = json.loads((work / "metadata.json").read_text())["packages"][0]
faults = []


def compare(title, real):
    for name in sorted(real - set(named[title])):
        faults.append(f"{name} is not on the page, under '{title}'")
    for name in sorted(set(named[title]) - real):
        faults.append(f"{name} is on the page, under '{title}', and not there")


shipped = {one["name"] for one in package["dependencies"] if one["kind"] is None}
compare("What is shipped", shipped)
compare("What only tests and benchmarks use", {one["name"] for one in package["dependencies"] if one["kind"] == "dev"} - shipped)
twice = set()
for build in sorted(work.glob("*-linux-gnu *")):
    crates = [line.rsplit(" v", 1) for line in build.read_text().splitlines()]
    names = [name for name, _ in crates]
    twice |= {name for name in names if names.count(name) > 1}
    platform, features = build.name.split(" ")
    binary = f"the binary for {platform}" + (f" with the feature {features}" if features else "")
    print(f"dependencies: {len(crates) - 1} crates in {binary}")
    if len(crates) - 1 > most:
        faults.append(f"{len(crates) - 1} crates in {binary}, {most} are allowed")
# The page may name a crate that only some builds have twice.
faults += [f"{name} is there twice, and not on the page" for name in sorted(twice - set(named["What is there twice"]))]
for fault in faults:
    print(f"dependencies: FAILED: {fault}")
sys.exit(bool(faults))
PYTHON
