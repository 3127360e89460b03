#!/usr/bin/env bash
# Records how often each part of the code runs under the loads of the benchmarks, with SQLite and with
# PostgreSQL, in deploy/image/HOST.profdata. deploy/image/build.sh, the Dockerfile and the releases use the
# file if it is there: code that runs often is built for speed and lies together, all other for size. The
# file is of use to the same sources and the same version of Rust alone.
#
# Needs what `cargo bench -- --postgres` needs, and llvm-profdata (`rustup component add llvm-tools`).
# Takes a little longer than two builds of the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

host=$(rustc -vV | sed -n 's/^host: //p')
merge=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
[ -x "$merge" ] || {
  echo "llvm-profdata is missing: 'rustup component add llvm-tools' installs it" >&2
  exit 1
}
folder=$PWD/target/profile
rm -rf "$folder/counts" "deploy/image/$host.profdata"*
sources=$(deploy/image/sources.sh)
RUSTFLAGS="-Cprofile-generate=$folder/counts" deploy/image/build.sh --target-dir "$folder"

# A benchmark that does not run leaves its code without counts, so a missing server is an error.
loads=backlog,ingest-64,end-to-end-64,end-to-end-256,duplicates-64,three-targets,hot-object-0,stream
log=$folder/bench.log
PEPAY_BRIDGE_BINARY=$folder/$host/dist/pepay-bridge \
  cargo bench --locked -- --rounds 1 --undelivered 20000 --only "$loads,postgres-64,postgres-two-64" 2>&1 | tee "$log"
for load in ${loads//,/ } postgres-64 postgres-two-64; do
  grep -q "^round 1: $load " "$log" || {
    echo "the load $load did not run" >&2
    exit 1
  }
done
printf '%s\n' "$sources" >"deploy/image/$host.profdata.sources"
"$merge" merge --output "deploy/image/$host.profdata" "$folder/counts"
