# The coordinator. From the root of the source:
#   docker build -f deploy/docker/coordinator.Dockerfile -t sinkforge-coordinator:0.1.0 .
ARG DEBIAN=debian:bookworm-20250520-slim

FROM ${DEBIAN} AS build
WORKDIR /source
COPY . .
RUN deploy/docker/stages/build.sh release /packages

FROM ${DEBIAN}
RUN --mount=type=bind,from=build,source=/packages,target=/packages \
    --mount=type=bind,source=deploy/docker/stages,target=/stages \
    /stages/runtime.sh sinkforge-coordinator /packages
USER 10001:10001
VOLUME /var/lib/sinkforge/coordinator
EXPOSE 7070 8080 9470
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["sinkforge", "health", "127.0.0.1:7070"]
ENTRYPOINT ["sinkforge-coordinator", "--data-dir=/var/lib/sinkforge/coordinator"]
# Whoever publishes these ports decides who reaches them: traffic is not encrypted.
CMD ["--listen=0.0.0.0:7070", "--metrics-listen=0.0.0.0:9470", "--http=0.0.0.0:8080", \
     "--insecure-listen"]
