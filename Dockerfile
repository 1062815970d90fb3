# The worker: `docker run oci-sync run -c worker.yaml flow.yaml`. Slim rather than Alpine, because confluent-kafka and
# starlark-pyo3 have no musl wheels.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src

# Dependencies first: they change less often than the code. Every file is checked against the lock.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-build.lock \
 && python -m venv /opt/oci-sync \
 && /opt/oci-sync/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE NOTICE ./
COPY schemas/ schemas/
COPY connector/ connector/
RUN /opt/build/bin/hatchling build -t wheel -d /src/dist \
 && /opt/oci-sync/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /src/dist/*.whl \
 && /opt/oci-sync/bin/pip uninstall --yes --disable-pip-version-check pip setuptools


FROM python:3.11-slim-bookworm

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="oci-sync" \
      org.opencontainers.image.description="Brings the files of an OCI artifact to Kafka: whole, once, in order." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# 65532 is the uid of "nonroot" in the distroless images; clusters that insist on runAsNonRoot want a number.
RUN groupadd --gid 65532 oci-sync \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /var/lib/oci-sync --shell /usr/sbin/nologin oci-sync \
 && install -d -o 65532 -g 65532 -m 0700 /var/lib/oci-sync

COPY --from=build /opt/oci-sync /opt/oci-sync
COPY tools/healthcheck.py /opt/oci-sync/healthcheck.py

# The root file system may be read-only: what is written goes to the spool in /var/lib/oci-sync, and to /tmp.
ENV PATH=/opt/oci-sync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

USER 65532:65532
WORKDIR /var/lib/oci-sync
VOLUME /var/lib/oci-sync

HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["python", "/opt/oci-sync/healthcheck.py"]

# SIGTERM drains: the worker ends its transaction first, so give it more than the transaction's time-out.
STOPSIGNAL SIGTERM
ENTRYPOINT ["oci-sync"]
CMD ["--help"]
