#!/usr/bin/env bash
# Fuzzes the parsers of input from outside: see docs/fuzzing.md. Not part of .ci/run, which runs the
# corpora only (tests/it/fuzz.rs). Needs the nightly toolchain and a C++ compiler.
#
# tests/fuzz.sh [--seconds N] [TARGET...]: fuzzes all targets, or the named ones, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.13.2
seconds=60
if [ "${1:-}" = --seconds ]; then
  seconds=$2
  shift 2
fi
targets=("$@")
if [ $# = 0 ]; then
  for target in tests/fuzz/targets/*.rs; do targets+=("$(basename "$target" .rs)"); done
fi

tools=$PWD/target/ci
[ "$("$tools/bin/cargo-fuzz" --version 2>/dev/null | awk '{ print $NF }')" = "$version" ] ||
  cargo install --quiet --locked --debug --root "$tools" "cargo-fuzz@$version"
PATH=$tools/bin:$PATH
# The fuzzed code has no `unsafe`: a sanitizer would take time and find nothing.
options=(--fuzz-dir tests/fuzz --sanitizer none)
cargo +nightly fuzz build "${options[@]}"
for target in "${targets[@]}"; do
  # New inputs are kept outside of the repository.
  found=target/fuzz-found/$target
  mkdir -p "$found"
  cargo +nightly fuzz run "${options[@]}" "$target" "$found" "tests/fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 >"target/fuzz-$target.log" 2>&1 || {
    tail -n 40 "target/fuzz-$target.log"
    exit 1
  }
  printf '%s: ' "$target"
  grep -E '^#[0-9]+\s+DONE' "target/fuzz-$target.log"
done
