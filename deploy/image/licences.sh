#!/usr/bin/env bash
# Prints the licences of every crate that is linked into the binary, with the texts that came with
# them, each text once. Reads what cargo has downloaded and nothing else; run in the repository.
#
# licences.sh [--features FEATURES]: of the binary that is built so.
# SOURCES names the folder of unpacked crates where it is not cargo's own.
set -euo pipefail
cd "$(dirname "$0")/../.."

home=${CARGO_HOME:-$HOME/.cargo}
# Crates that only run while others are compiled are not in the binary.
listed=$(cargo tree --locked "$@" --edges normal,no-proc-macro --target "$(rustc -vV | sed -n 's/^host: //p')" \
  --prefix none --format '{p}|{l}')

declare -A texts crates
names=()
while IFS='|' read -r package licence; do
  read -r name version _ <<<"$package"
  folder=''
  for candidate in ${SOURCES:+"$SOURCES"/$name-${version#v}} "$home"/registry/src/*/"$name-${version#v}" /vendor/"$name-${version#v}"; do
    if [ -d "$candidate" ]; then folder=$candidate && break; fi
  done
  [ -n "$folder" ] || { printf 'licences: the sources of %s %s are not at hand\n' "$name" "$version" >&2 && exit 1; }
  names+=("$name $version: ${licence% (\*)}")
  for file in "$folder"/{LICEN[CS]E,COPYING,COPYRIGHT,NOTICE,UNLICENSE}* "$folder"/license*; do
    [ -f "$file" ] || continue
    sum=$(sha256sum <"$file")
    sum=${sum%% *}
    texts[$sum]=$file
    crates[$sum]+="$name ${version#v}, "
  done
done < <(sort -u <<<"${listed// (\*)/}" | grep -v '^pepay-bridge ')

printf 'pepay-bridge is under Apache-2.0 or MIT, at your option. Its binary contains these %d crates:\n\n' "${#names[@]}"
printf '%s\n' "${names[@]}"
printf '\nlibsqlite3-sys contains SQLite, which is in the public domain.\n'
for sum in $(printf '%s\n' "${!texts[@]}" | sort); do
  printf '\n%s\n%s\n\n' "------------------------------------------------------------------------------" "${crates[$sum]%, }"
  cat "${texts[$sum]}"
done
