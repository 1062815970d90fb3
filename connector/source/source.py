"""One `oci_sync` task, resolved: what a tick, a restore and a worker need to know of it. Pure."""

from dataclasses import dataclass, replace
from datetime import timedelta

from connector.layers.extract import ExtractOptions
from connector.oci.platform import Platform
from connector.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class Source:
    """One `oci_sync` task, resolved: everything a tick needs to know and nothing that does IO.

    `settings` is the fingerprint of what shapes the records; `offset_partition` the unit of ownership.
    """

    flow: str
    name: str
    reference: Reference
    platform: Platform | None
    options: ExtractOptions
    topic: str
    topic_partitions: int
    offsets_topic: str
    offsets_partitions: int
    offset_key: bytes
    offset_partition: int
    settings: str
    force_pull: bool
    timeout: timedelta
    worker: str

    @property
    def artifact(self) -> str:
        """The reference as configured."""
        return self.reference.text


def with_partitions(source: Source, topic_partitions: int) -> Source:
    """The source once it is known how many partitions its topic has."""
    return replace(source, topic_partitions=topic_partitions)
