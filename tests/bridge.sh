# shellcheck shell=bash
# Finds the binary under test and builds the libraries that are preloaded into it. Scripts source
# this in the repository's folder.

# check_named_binary: fails if PEPAY_BRIDGE_BINARY names no executable file.
check_named_binary() {
  [ -z "${PEPAY_BRIDGE_BINARY:-}" ] || { [ -f "$PEPAY_BRIDGE_BINARY" ] && [ -x "$PEPAY_BRIDGE_BINARY" ]; } || {
    printf 'PEPAY_BRIDGE_BINARY names %s, which is no executable file\n' "$PEPAY_BRIDGE_BINARY" >&2
    exit 1
  }
}

# find_binary: sets `binary` to the path in PEPAY_BRIDGE_BINARY, or else builds a release.
find_binary() {
  check_named_binary
  [ -n "${PEPAY_BRIDGE_BINARY:-}" ] || cargo build --release --locked
  # The script that sources this reads it.
  # shellcheck disable=SC2034
  binary=$(realpath "${PEPAY_BRIDGE_BINARY:-target/release/pepay-bridge}")
}

# build_library SOURCE [FLAG...]: builds a shared library from one C file and sets `library` to its path.
build_library() {
  local source=$1
  shift
  mkdir -p target/ci
  library=$PWD/target/ci/$(basename "$source" .c).so
  # torture.sh and replicas.sh may build the same one at the same time, and a process may have it open.
  cc -shared -fPIC -O2 -Wall -Wextra -o "$library.$$" "$source" "$@" -ldl
  mv "$library.$$" "$library"
}
