# Every wheel is checked against the hashes of requirements.lock here; of these, the image gets what the server needs.
FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/build
COPY requirements.lock ./
RUN /opt/build/bin/pip wheel --quiet --require-hashes --requirement requirements.lock --wheel-dir /opt/wheels \
    && /opt/build/bin/pip install --quiet --no-index --find-links /opt/wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY engine ./engine
COPY app ./app
RUN /opt/build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /opt/wheels . \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --quiet --no-index --find-links /opt/wheels pullback-server

FROM python:3.12-slim
COPY --from=build /opt/venv /opt/venv
# Whoever 10001 is, it owns the data and nothing else.
RUN install -d -o 10001 -g 10001 /data
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PULLBACK_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=3)"]
# A container's own loopback can't be published: whoever publishes the port decides who reaches it.
CMD ["pullback", "serve", "--host", "0.0.0.0", "--port", "8000", "--insecure"]
