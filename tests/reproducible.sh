#!/usr/bin/env bash
# Builds the shipped binary twice, each time from scratch, and compares the two bit for bit. Not part of
# .ci/run, which would take half as long again.
#
# The second build has another number of jobs, time zone, language and umask, and newer sources. These
# must not matter. Both builds have the same folder, as in the image: texts of panics contain the paths
# of the dependencies' sources.
#
# tests/reproducible.sh [FLAG...]: passes the flags to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/reproducible
# build NAME COMMAND...: builds with deploy/image/build.sh, which COMMAND starts, and with `flags`.
build() {
  local name=$1
  shift
  rm -rf "$folder"
  "$@" deploy/image/build.sh --quiet --target-dir "$folder" "${flags[@]}"
  find "$folder" -path '*/dist/pepay-bridge' -exec mv {} "target/reproducible-$name" \;
}
flags=(--jobs 2 "$@")
build first env TZ=UTC LC_ALL=C
flags=(--jobs 1 "$@")
find src migrations build.rs -type f -exec touch {} +
(umask 077 && build second env TZ=Pacific/Auckland LC_ALL=C.UTF-8)
rm -rf "$folder"
sha256sum target/reproducible-first target/reproducible-second
cmp target/reproducible-first target/reproducible-second
printf 'reproducible: ok, %d bytes\n' "$(stat --format %s target/reproducible-first)"
