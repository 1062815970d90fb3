"""The registry client's hosts as `worker.yaml` sets them up; needs no Kafka."""

import connector
from connector.config.worker_file import RegistryFields, Worker
from connector.oci.hosts import Hosts, HostSettings, Observer
from connector.oci.mirrors import parse_mirror
from connector.status import Status
from connector.telemetry import Telemetry


class Watching:
    """Tells the metrics of all that is asked of registries, and the status of our budget there."""

    def __init__(self, telemetry: Telemetry, status: Status) -> None:
        self._status = status
        self._telemetry = telemetry
        self.registry_request = telemetry.registry_request
        self.blob_bytes = telemetry.blob_bytes

    def rate_limit(self, registry: str, remaining: int, limit: int | None) -> None:
        """What the registry says of our budget."""
        self._telemetry.rate_limit(registry, remaining, limit)
        self._status.registry_budget(registry, remaining, limit)


def build_hosts(worker: Worker, observer: Observer | None = None) -> Hosts:
    """The hosts of a process; open them with `async with`."""
    settings = {name: _settings(fields) for name, fields in worker.registries.items()}
    return Hosts(settings, user_agent=f"oci-sync/{connector.__version__}", observer=observer)


def _settings(fields: RegistryFields) -> HostSettings:
    plain = fields.model_dump(exclude={"mirrors"})
    return HostSettings(**plain, mirrors=tuple(parse_mirror(text) for text in fields.mirrors))
