#!/bin/sh
# Prints the digest of what the binary is made of.
set -eu
cd "$(dirname "$0")/../.."
find Cargo.toml Cargo.lock build.rs .cargo src migrations config -type f -print0 | LC_ALL=C sort -z |
  xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
