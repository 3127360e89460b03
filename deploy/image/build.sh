#!/bin/sh
# Builds the binary that the image and the releases contain. With a profile of these sources and this
# architecture (deploy/image/profile.sh), the compiler knows which code runs often. The binary is
# HOST/dist/pepay-bridge in cargo's target folder; HOST is what `rustc -vV` says. CARGO_BUILD_TARGET names
# another one.
#
# deploy/image/build.sh [FLAG...]: passes the flags to cargo.
set -eu
cd "$(dirname "$0")/../.."

host=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
profile=$PWD/deploy/image/$host.profdata
# A profile of other sources makes the binary larger: what has no counts does not count as rare.
if [ -e "$profile" ] && [ "$(deploy/image/sources.sh)" = "$(cat "$profile.sources")" ]; then
  export RUSTFLAGS="-Cprofile-use=$profile ${RUSTFLAGS:-}"
elif [ -e "$profile" ]; then
  echo "$profile was recorded from other sources, and is not used" >&2
fi
# With --target, as when the profile was recorded: without it, symbols have other names.
exec cargo build --profile dist --locked --features otlp --bin pepay-bridge --target "$host" "$@"
