# shellcheck shell=bash
# Makes stand-ins for the two base images of the Dockerfile, under their names, from Debian packages
# and this machine's Rust toolchain. So the unchanged Dockerfile builds without an image registry.
#
# Needs $work (a temporary folder), buildah with a storage for this test, and apt-get.

: "${work:?}"
builder_name=docker.io/library/rust:1.95-bookworm
runtime_name=gcr.io/distroless/cc-debian12:nonroot

# The packages that the build needs: a shell with its tools, a linker, a C compiler.
builder_packages=(bash coreutils findutils gcc grep libc6-dev sed)
# The packages that distroless has in `cc-debian12`.
runtime_packages=(base-files ca-certificates gcc-12-base libc6 libgcc-s1 libgomp1 libssl3 libstdc++6 netbase tzdata)

# fetch_packages FOLDER PACKAGE...: downloads the packages and their dependencies, as for an empty system.
fetch_packages() {
  local folder=$1
  shift
  mkdir -p "$folder/partial"
  : >"$work/dpkg-status"
  apt-get -qq -y --no-install-recommends --download-only \
    -o Dir::State::status="$work/dpkg-status" -o Dir::Cache::archives="$folder" \
    -o APT::Sandbox::User=root -o Debug::NoLocking=1 install "$@" >/dev/null
}

# Downloads the packages for make_builder and make_runtime.
fetch_bases() {
  fetch_packages "$work/builder-debs" "${builder_packages[@]}" &&
    fetch_packages "$work/runtime-debs" "${runtime_packages[@]}"
}

# unpack_packages ROOT DEB...: unpacks the packages without running their install scripts.
unpack_packages() {
  local root=$1 deb
  shift
  mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
  for deb in bin sbin lib lib64; do ln -s "usr/$deb" "$root/$deb"; done
  for deb in "$@"; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink
  done
}

# The builder reads the crates from /vendor and the toolchain from /usr/local/rust. Both are mounted
# at build time and not copied.
make_builder() {
  local container root
  container=$(buildah from scratch)
  root=$(buildah mount "$container")
  unpack_packages "$root" "$work"/builder-debs/*.deb
  # Install scripts would make these two links.
  ln -sf bash "$root/usr/bin/sh"
  ln -sf gcc "$root/usr/bin/cc"
  mkdir -p "$root"/{tmp,vendor,usr/local/rust,usr/local/cargo,root}
  cat >"$root/usr/local/cargo/config.toml" <<'TOML'
[source.crates-io]
replace-with = "vendor"
[source.vendor]
directory = "/vendor"
[net]
offline = true
TOML
  buildah umount "$container" >/dev/null
  buildah config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env CARGO_HOME=/usr/local/cargo "$container"
  buildah commit --quiet --rm --format docker "$container" "$builder_name" >/dev/null
}

make_runtime() {
  local container root debs=() name
  # Distroless contains these packages without the dependencies of their install scripts.
  for name in "${runtime_packages[@]}"; do debs+=("$work/runtime-debs/$name"_*.deb); done
  container=$(buildah from scratch)
  root=$(buildah mount "$container")
  unpack_packages "$root" "${debs[@]}"
  cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
  mkdir -p "$root/home/nonroot" "$root/tmp"
  chmod 1777 "$root/tmp"
  chown 65532:65532 "$root/home/nonroot"
  printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin' \
    'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'nobody:x:65534:' 'nonroot:x:65532:' >"$root/etc/group"
  buildah umount "$container" >/dev/null
  buildah config --user 65532 --workingdir /home/nonroot \
    --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$container"
  buildah commit --quiet --rm --format docker "$container" "$runtime_name" >/dev/null
}
