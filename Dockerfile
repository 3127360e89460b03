# The two bases, which a build can pin by digest: --build-arg RUNTIME=gcr.io/…@sha256:…
# The builder's Debian is the runtime's, so that the binary finds the glibc it was linked to.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

# hadolint ignore=DL3006
FROM ${BUILDER} AS build
WORKDIR /build
COPY . .
ARG PEPAY_BRIDGE_COMMIT=unknown
# The caches outlive this build and may hold another checkout's: cargo judges by time of
# change, so every file counts as changed now and only the dependencies are taken from there.
# Each platform has a folder of its own in them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && machine="$(uname -m)" \
    && export CARGO_TARGET_DIR="target/$machine" \
    && deploy/image/build.sh \
    && install -D "$CARGO_TARGET_DIR"/*/dist/pepay-bridge /image/pepay-bridge \
    && install -d /image/doc \
    && deploy/image/licences.sh --features otlp >/image/doc/THIRD-PARTY-LICENCES.txt \
    && install -m 0644 LICENSE-APACHE LICENSE-MIT /image/doc/ \
    && install -d -m 0700 /image/data

# No shell, no package manager; CA certificates for TLS are in it.
# hadolint ignore=DL3006
FROM ${RUNTIME}
ARG RUNTIME
ARG PEPAY_BRIDGE_COMMIT=unknown
ARG PEPAY_BRIDGE_SOURCE=unknown
ARG PEPAY_BRIDGE_CREATED=unknown
LABEL org.opencontainers.image.title="pepay-bridge" \
      org.opencontainers.image.description="Receives Pepay's commerce events over WebSocket and webhooks, keeps each once, and forwards each to your services" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${PEPAY_BRIDGE_COMMIT}" \
      org.opencontainers.image.source="${PEPAY_BRIDGE_SOURCE}" \
      org.opencontainers.image.url="${PEPAY_BRIDGE_SOURCE}" \
      org.opencontainers.image.created="${PEPAY_BRIDGE_CREATED}" \
      org.opencontainers.image.base.name="${RUNTIME}"
COPY --from=build /image/doc /usr/share/doc/pepay-bridge
COPY --from=build /image/pepay-bridge /usr/local/bin/pepay-bridge
# A named volume takes over the owner of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /image/data /data
# The one writable place under a read-only root: what SQLite has to spill lands here too.
ENV TMPDIR=/data
# By number, so that an orchestrator can see that it is not root.
USER 65532:65532
# The default of store.url, sqlite://data/pepay-bridge.db, is on the volume from here. No variable sets
# it: that would win over a configuration file.
WORKDIR /
VOLUME /data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/pepay-bridge", "health", "--intake"]
ENTRYPOINT ["/usr/local/bin/pepay-bridge"]
CMD ["run"]
