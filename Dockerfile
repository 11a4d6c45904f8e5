# The operator, and only what it needs to run: make image. Any base with Python 3.11 or newer and its venv module will do.
ARG BASE=docker.io/library/python:3.13-slim@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

FROM ${BASE} AS build
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/dittofs-operator
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN /build/bin/pip install --quiet --require-hashes -r requirements-build.lock && \
    /build/bin/pip --python /opt/dittofs-operator/bin/python install --quiet --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY certs certs
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /build . && \
    /build/bin/pip --python /opt/dittofs-operator/bin/python install --quiet --no-compile --no-deps /build/*.whl
# Two builds give the same image: the time of a source is not in its compiled form, nor is the order of a set. Forced, because pip itself
# imports some of what is installed, and leaves files with times.
RUN PYTHONHASHSEED=0 /opt/dittofs-operator/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/dittofs-operator/lib

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dittofs-operator" \
      org.opencontainers.image.description="The storage operator for DittoFS on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/dittofs-operator /opt/dittofs-operator
# By number: Kubernetes can tell that it is not root. Nothing is written, so the root file system may be read-only.
USER 65532:65532
ENV PYTHONDONTWRITEBYTECODE=1
EXPOSE 9443 8081
ENTRYPOINT ["/opt/dittofs-operator/bin/dittofs-operator"]
CMD ["serve"]
