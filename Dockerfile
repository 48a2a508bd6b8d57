# Ducktide's four programs, DuckDB's library and its signed extensions; nothing is downloaded at run time.
#
#   docker build -t ducktide .                      compiles from source
#   docker build -t ducktide --target prebuilt .    copies target/release/ and .ducktide/ unchanged:
#                                                   the same programs that were tested
#
# Works without BuildKit, and uses the predefined HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

FROM debian:bookworm-slim AS runtime
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates libssl3 libstdc++6 tini zlib1g \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /lake --shell /usr/sbin/nologin ducktide \
 # A new volume inherits owner and mode of its mount point.
 && install --directory --owner=ducktide --group=ducktide /lake /ledger
COPY docker/image/healthcheck /usr/local/bin/
# Other containers connect to the workers, whose default is `127.0.0.1:0`.
ENV DUCKTIDE_LISTEN=0.0.0.0:9464
EXPOSE 9464
WORKDIR /lake
# As process 1, a program would ignore the signals that it does not handle itself.
ENTRYPOINT ["tini", "--"]
CMD ["ducktide", "--help"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["healthcheck"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Ducktide" \
      org.opencontainers.image.description="Streams Avro events from Kafka into DuckLake exactly once" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="debian:bookworm-slim"

# Old builders build every stage before the target stage. So this stage comes before `build`, to skip
# it, and its patterns may match no file, as in a fresh clone.
FROM debian:bookworm-slim AS found
LABEL ducktide.stage=found
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends binutils
COPY LICENSE-* target/releas[e]/ducktid[e] target/releas[e]/ducktide-produce[r] \
     target/releas[e]/ducktide-consume[r] target/releas[e]/ducktide-compacto[r] /programs/bin/
COPY LICENSE-* .ducktid[e]/duckdb/libduckdb.so /programs/lib/
COPY LICENSE-* .ducktid[e]/extensions/*.duckdb_extension /programs/lib/ducktide/extensions/
COPY docker/image/pack /usr/local/bin/
RUN pack /programs

FROM runtime AS prebuilt
COPY --from=found /programs /usr/local
USER ducktide

FROM rust:1.95-bookworm AS build
LABEL ducktide.stage=build
WORKDIR /ducktide
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock LICENSE-* ./
COPY schemas schemas
COPY producer producer
COPY crates crates
COPY consumer consumer
COPY compactor compactor
COPY ducktide ducktide
COPY testbed testbed
COPY xtask xtask
RUN cargo xtask setup --for-build \
 && cargo build --release --locked --bins \
        -p ducktide -p ducktide-producer -p ducktide-consumer -p ducktide-compactor
COPY docker/image/pack /usr/local/bin/
RUN mkdir -p /programs/bin /programs/lib/ducktide/extensions \
 && cp LICENSE-* target/release/ducktide target/release/ducktide-producer \
       target/release/ducktide-consumer target/release/ducktide-compactor /programs/bin/ \
 && cp .ducktide/duckdb/libduckdb.so /programs/lib/ \
 && cp .ducktide/extensions/*.duckdb_extension /programs/lib/ducktide/extensions/ \
 && pack /programs

FROM runtime
COPY --from=build /programs /usr/local
USER ducktide
