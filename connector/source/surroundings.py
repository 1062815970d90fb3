"""What the partitions of a worker work with: sources that have a beat, and what all partitions share."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from msgspec import Struct

from connector.errors import OciSyncError, OutputError
from connector.source.restore import Restorer
from connector.source.source import Source
from connector.source.tasks.generate import Schedule
from connector.source.tasks.oci_sync import OciSync
from connector.status import SourceId, Status
from connector.telemetry import Telemetry

Limits = Mapping[str, int | None]


class ScheduledSource(Struct, frozen=True):
    """A source and when it ticks."""

    ticker: OciSync
    schedule: Schedule

    @property
    def source(self) -> Source:
        """What it follows."""
        return self.ticker.source

    @property
    def id(self) -> SourceId:
        """Its name in status and metrics."""
        return SourceId(self.source.flow, self.source.name)


class Surroundings(Struct, frozen=True):
    """What all partitions of a worker share.

    `limits` asks for max.message.bytes of the topics it is given, and leaves out those that are gone. It raises
    OutputError TopicMissing where the offsets topic is.
    """

    status: Status
    telemetry: Telemetry
    restorer: Restorer
    limits: Callable[[Collection[str]], Awaitable[Limits]]
    offsets_topic: str
    restoring: asyncio.Semaphore
    once: bool
    failures: dict[SourceId, OciSyncError]


def topic_gone(name: str) -> OutputError:
    """The error of a topic that was there when the worker started."""
    return OutputError(
        reason="TopicMissing",
        doing=f"looking at topic {name}",
        cause="it is gone since this worker started",
        remedy="oci-sync topics create makes it again, and the next tick emits in full (operator)",
    )
