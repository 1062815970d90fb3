"""What a process has once, whatever it runs."""

import os
import platform
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

import connector
from connector import allocator
from connector.config.worker_file import Worker as WorkerFile
from connector.config.worker_file import spool_directory
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients, Property, librdkafka_version
from connector.kafka.topics import Topics
from connector.oci.blob import BlobStore
from connector.oci.hosts import Hosts
from connector.oci.spool import spool_failed
from connector.status import Status
from connector.telemetry import Telemetry
from connector.wiring.registries import Watching, build_hosts

_MEMBERSHIP = (
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "group.protocol",
    "group.remote.assignor",
    "max.poll.interval.ms",
)


class Parts(Struct, frozen=True):
    """What a process has once, whatever it runs."""

    worker: WorkerFile
    clients: Clients
    topics: Topics
    changelog: Changelog
    hosts: Hosts
    spool: Path
    blob_store: BlobStore
    status: Status
    telemetry: Telemetry


@asynccontextmanager
async def open_parts(worker: WorkerFile) -> AsyncIterator[Parts]:
    """The shared parts, closed again in reverse order; touches no network. Raises ConfigError, LayerError."""
    allocator.leave_what_is_loaded()
    allocator.hold_border()
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(Clients(worker.kafka, f"oci-sync-{worker.worker_name}-{os.getpid()}"))
        telemetry = Telemetry()
        telemetry.build(connector.__version__, librdkafka_version(), platform.python_version())
        status = Status(worker.worker_name, datetime.now(UTC))
        hosts = await stack.enter_async_context(build_hosts(worker, Watching(telemetry, status)))
        topics = Topics(clients)
        spool = _spool(worker)
        yield Parts(
            worker=worker,
            clients=clients,
            topics=topics,
            changelog=Changelog(clients, topics),
            hosts=hosts,
            spool=spool,
            blob_store=BlobStore(spool, worker.spool.cache_size),
            status=status,
            telemetry=telemetry,
        )


def membership_properties(worker: WorkerFile) -> dict[str, Property]:
    """What the worker file says of how members of its groups join and stay."""
    return {name: worker.kafka[name] for name in _MEMBERSHIP if name in worker.kafka}


def _spool(worker: WorkerFile) -> Path:
    directory = spool_directory(worker)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise spool_failed(directory, error) from error
    return directory
