# syntax=docker/dockerfile:1

# The wheel, made by the locked build backend.
FROM python:3.13-slim AS wheel
WORKDIR /src
COPY requirements-build.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-build.lock
COPY . .
RUN pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels .

# The environment it runs in: every dependency by its hash, then that very wheel.
FROM python:3.13-slim AS environment
RUN python -m venv /opt/distsql
COPY requirements-serve.lock ./
RUN /opt/distsql/bin/pip install --no-cache-dir --require-hashes --requirement requirements-serve.lock
COPY --from=wheel /wheels /wheels
RUN /opt/distsql/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="distsql" \
      org.opencontainers.image.description="A container registry whose truth is a PostgreSQL catalogue" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/distsql --shell /usr/sbin/nologin distsql
COPY --from=environment /opt/distsql /opt/distsql
ENV PATH=/opt/distsql/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DISTSQL_DATA=/var/lib/distsql
USER distsql
WORKDIR /var/lib/distsql
VOLUME /var/lib/distsql
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/healthz', timeout=4)"]
ENTRYPOINT ["distsql"]
# A published port needs an address other than loopback, and that distsql refuses without authentication: it says so and
# ends, until the setting is chosen (--auth token) or the risk taken (--insecure, see docker-compose.yml).
CMD ["serve", "--host", "0.0.0.0"]
