"""The registry client's hosts as `worker.yaml` sets them up; needs no Kafka."""

import connector
from connector.config.worker_file import Worker
from connector.oci.hosts import Hosts, HostSettings, Observer


def build_hosts(worker: Worker, observer: Observer | None = None) -> Hosts:
    """The hosts of a process; open them with `async with`."""
    settings = {name: HostSettings(**fields.model_dump()) for name, fields in worker.registries.items()}
    return Hosts(settings, user_agent=f"oci-sync/{connector.__version__}", observer=observer)
