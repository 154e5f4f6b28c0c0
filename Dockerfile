# Every wheel is checked against the hashes of requirements.lock here; of these, the image gets what the server needs.
# Versions of base images are pinned; `make pin` pins their digests too. Needs BuildKit, which Docker has since 23.0.
FROM python:3.13.12-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update && apt-get install --yes --no-install-recommends tini
WORKDIR /src
RUN python -m venv /opt/build && python -m venv --without-pip /opt/venv
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip wheel --quiet --require-hashes --requirement requirements.lock --wheel-dir /opt/wheels \
    && /opt/build/bin/pip install --quiet --no-index --find-links /opt/wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY engine ./engine
COPY app ./app
# Bytecode is compiled here and never checked against its source: nothing of the image is written to when it runs.
RUN /opt/build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /opt/wheels . \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --no-compile --no-index --find-links /opt/wheels 'pullback-server[traces]' \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM python:3.13.12-slim-trixie
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Pullback" \
    org.opencontainers.image.description="Autograd as a service: values and gradients of programs over HTTP." \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.base.name="docker.io/library/python:3.13.12-slim-trixie"
# Linked statically, it needs no library of the stage that it comes from.
COPY --from=build /usr/bin/tini-static /usr/bin/tini
COPY --from=build /opt/venv /opt/venv
# The user 10001 owns the data and nothing else.
RUN install -d -o 10001 -g 10001 /data
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PULLBACK_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=3)"]
# Worker processes whose parent was killed become children of process 1, which has to reap them.
ENTRYPOINT ["/usr/bin/tini", "--"]
# A container's own loopback can't be published: whoever publishes the port decides who reaches it.
CMD ["pullback", "serve", "--host", "0.0.0.0", "--port", "8000", "--insecure"]
