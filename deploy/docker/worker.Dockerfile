# A worker with the trainer, for CPUs. From the root of the source:
#   docker build -f deploy/docker/worker.Dockerfile -t sinkforge-worker:0.1.0 .
ARG DEBIAN=debian:bookworm-20250520-slim

FROM ${DEBIAN} AS build
WORKDIR /source
COPY . .
RUN deploy/docker/stages/build.sh release /packages

FROM ${DEBIAN}
RUN --mount=type=bind,from=build,source=/packages,target=/packages \
    --mount=type=bind,source=deploy/docker/stages,target=/stages \
    /stages/runtime.sh sinkforge-worker /packages
USER 10001:10001
VOLUME /var/lib/sinkforge/worker
EXPOSE 7071 9471
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["sinkforge", "health", "127.0.0.1:7071"]
ENTRYPOINT ["sinkforge-worker", "--data-dir=/var/lib/sinkforge/worker", "--data-root=/data"]
# It tells the coordinator its host name as address; give one of its own with --listen elsewhere.
CMD ["--listen=0.0.0.0:7071", "--metrics-listen=0.0.0.0:9471", "--insecure-listen"]
