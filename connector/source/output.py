"""Where one source of a partition writes: through the partition's fence, and to a topic that is there."""

from collections.abc import Iterable
from typing import Protocol

from connector.kafka.record import Record
from connector.kafka.transaction import Committed


class Fenced(Protocol):
    """The partition: `prepare` asks for fresh limits and makes a producer ready, `commit` writes all or nothing."""

    async def prepare(self, topic: str | None = None) -> None:
        """Raises OutputError TopicMissing where the topic is gone, before anything is made ready."""
        ...

    async def commit(self, records: Iterable[Record], offset: Record) -> Committed:
        """Raises OutputError."""
        ...


class SourceOutput:
    """What a tick writes to. A topic that is gone is an error of its own source; a broker might make it anew."""

    def __init__(self, partition: Fenced, topic: str) -> None:
        self._partition = partition
        self._topic = topic

    async def prepare(self) -> None:
        """Make ready, while the blobs download. Raises OutputError."""
        await self._partition.prepare(self._topic)

    async def commit(self, records: Iterable[Record], offset: Record) -> Committed:
        """Write the records and then the offset. Raises OutputError."""
        return await self._partition.commit(records, offset)
