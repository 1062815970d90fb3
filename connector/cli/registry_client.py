"""What `pull` and `doctor` share: the registry client as `worker.yaml` sets it up, without Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from connector.config.worker_file import Worker
from connector.oci.registry import Registry
from connector.oci.retry import RetryPolicy
from connector.wiring.registries import build_hosts


@asynccontextmanager
async def open_registry(worker: Worker, credentials: Path | None, policy: RetryPolicy) -> AsyncIterator[Registry]:
    """The registries of one credentials file, with the worker file's settings for their hosts."""
    async with build_hosts(worker) as hosts:
        yield Registry(hosts, credentials, policy, max_layers=worker.limits.max_layers)
