# The builder's Debian is the runtime's, so that the binary finds the glibc it was linked to.
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
ARG PEPAY_BRIDGE_COMMIT=unknown
# The caches outlive this build and may hold another checkout's: cargo judges by time of
# change, so every file counts as changed now and only the dependencies are taken from there.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --release --locked --bin pepay-bridge \
    && install -D target/release/pepay-bridge /image/pepay-bridge \
    && install -d -m 0700 /image/data

# No shell, no package manager; CA certificates for TLS are in it.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG PEPAY_BRIDGE_COMMIT=unknown
LABEL org.opencontainers.image.title="pepay-bridge" \
      org.opencontainers.image.description="Receives Pepay's commerce events over WebSocket and webhooks, keeps each once, and forwards each to your services" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${PEPAY_BRIDGE_COMMIT}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"
COPY --from=build /image/pepay-bridge /usr/local/bin/pepay-bridge
# A named volume takes over the owner of the folder it is mounted on.
COPY --from=build --chown=65532:65532 /image/data /data
ENV PEPAY_BRIDGE__STORE__URL=sqlite:///data/pepay-bridge.db
# By number, so that an orchestrator can see that it is not root.
USER 65532:65532
# The one writable place under a read-only root: what SQLite has to spill lands here too.
WORKDIR /data
VOLUME /data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/pepay-bridge", "health", "--intake"]
ENTRYPOINT ["/usr/local/bin/pepay-bridge"]
CMD ["run"]
