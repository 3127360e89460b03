#!/usr/bin/env bash
# Builds the binary that is shipped twice, each time from nothing, and compares the two bit for bit.
# Not part of .ci/run, which it would lengthen by half.
#
# The second build differs in what must not matter: its number of jobs, time zone, language and
# file mode, and the age of the sources. The folder is the same, as in the image: the paths of
# the dependencies' sources are in the texts of panics.
#
# tests/reproducible.sh [FLAG...]: the flags are cargo's, --target x86_64-unknown-linux-musl for one.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/reproducible
# build NAME COMMAND...: the command with which cargo is called ends in the flags of its own.
build() {
  local name=$1
  shift
  rm -rf "$folder"
  "$@" cargo build --quiet --profile dist --locked --features otlp --bin pepay-bridge --target-dir "$folder" "${flags[@]}"
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
