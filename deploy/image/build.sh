#!/bin/sh
# Builds the binary that the image and the releases contain. With a profile of this architecture
# (deploy/image/profile.sh), the compiler knows which code runs often. The binary is HOST/dist/pepay-bridge
# in cargo's target folder; HOST is what `rustc -vV` says. CARGO_BUILD_TARGET names another one.
#
# deploy/image/build.sh [FLAG...]: passes the flags to cargo.
set -eu
cd "$(dirname "$0")/../.."

host=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
profile=$PWD/deploy/image/$host.profdata
if [ -e "$profile" ]; then
  # A function that has changed since then has no counts. That is no fault.
  export RUSTFLAGS="-Cprofile-use=$profile -Cllvm-args=-no-pgo-warn-mismatch ${RUSTFLAGS:-}"
fi
# With --target, as when the profile was recorded: without it, symbols have other names.
exec cargo build --profile dist --locked --features otlp --bin pepay-bridge --target "$host" "$@"
