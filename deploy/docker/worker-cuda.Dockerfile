# A worker with the trainer, for NVIDIA GPUs. From the root of the source, with NVIDIA's
# cuda-keyring_1.1-1_all.deb for Debian 12 as cuda-keyring.deb in deploy/docker:
#   docker build -f deploy/docker/worker-cuda.Dockerfile -t sinkforge-worker-cuda:0.1.0 .
# The host's driver comes in at run time: docker run --gpus all, or Kubernetes' device plugin.
# Without it the worker ends with exit code 5 and says why.
ARG DEBIAN=debian:bookworm-20250520-slim

FROM ${DEBIAN} AS build
WORKDIR /source
COPY deploy/docker/stages/cuda.sh deploy/docker/cuda-keyring.deb /cuda/
RUN /cuda/cuda.sh /cuda/cuda-keyring.deb "cuda-nvcc-13-0 cuda-cudart-dev-13-0 libcublas-dev-13-0"
COPY . .
RUN deploy/docker/stages/build.sh cuda /packages

FROM ${DEBIAN}
RUN --mount=type=bind,from=build,source=/cuda,target=/cuda \
    /cuda/cuda.sh /cuda/cuda-keyring.deb libcublas-13-0
RUN --mount=type=bind,from=build,source=/packages,target=/packages \
    --mount=type=bind,source=deploy/docker/stages,target=/stages \
    /stages/runtime.sh sinkforge-worker /packages
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME /var/lib/sinkforge/worker
EXPOSE 7071 9471
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["sinkforge", "health", "127.0.0.1:7071"]
ENTRYPOINT ["sinkforge-worker", "--data-dir=/var/lib/sinkforge/worker", "--data-root=/data"]
CMD ["--gpus=1", "--listen=0.0.0.0:7071", "--metrics-listen=0.0.0.0:9471", "--insecure-listen"]
