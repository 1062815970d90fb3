"""`kafka_topic_store`: another compacted topic by key; a reader with read_committed never sees half of a release.

Rules. (1) The topic is the state: what it holds is read back, so nobody else need be asked. (2) All writes of a diff
are one transaction; a value is a record, a removal a tombstone. (3) The key's partition is that of Java's default
partitioner, so the topic joins with others by key.
"""

import contextlib
from collections.abc import Awaitable, Mapping
from typing import Annotated, TypeVar

from pydantic import Field

from connector.config.task import checked_by
from connector.errors import OutputError, SinkError
from connector.kafka.batch import commit_batch
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients, Property, check_properties
from connector.kafka.record import Record, partition_for, record_size_bytes
from connector.kafka.topics import Manage, Topic, Topics, compacted_topic
from connector.sink.operation import StoreFields, check_store
from connector.sink.parts import Parts
from connector.sink.store import Diff, Entry, Store

T = TypeVar("T")

_LARGEST = 10_000_000
_LOGIN = ("sasl.", "ssl.", "security.protocol", "enable.ssl.", "enable.sasl.")
_REASONS = {
    "KafkaUnreachable": "StoreUnreachable",
    "RestoreStalled": "StoreUnreachable",
    "Fenced": "StoreConflict",
    "RecordTooLarge": "ValueTooLarge",
}


class Fields(StoreFields):
    """A compacted topic, on the worker's cluster or another one."""

    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="The topic to keep equal to the snapshot.")
    create_topic: bool = Field(True, description="Create it, compacted, if it is missing.")
    partitions: int = Field(1, ge=1, le=10_000, description="Its partitions when it is created.")
    kafka: Annotated[dict[str, Property], checked_by(check_properties)] = Field(
        {},
        description="librdkafka properties for this store, over those of worker.yaml. With `bootstrap.servers` it is "
        "another cluster, which gets none of `sasl.*`, `ssl.*` and `security.protocol` of worker.yaml: name its own.",
    )


class KafkaTopicStore:
    """One topic. Connects at the first call."""

    def __init__(self, fields: Fields, properties: Mapping[str, Property], flow: str) -> None:
        self._fields = fields
        self._properties = properties_of(properties, fields.kafka)
        self._transactional_id = transactional_id(flow, fields.name)
        self._clients: Clients | None = None
        self._topics: Topics | None = None
        self._topic: Topic | None = None

    def __repr__(self) -> str:
        return f"<KafkaTopicStore {self._fields.topic}>"

    def check(self, key: str, value: bytes) -> None:
        """Any text but the empty one is a key; how large a value may be is the topic's to say."""
        doing = f"writing {key[:200]!r} to topic {self._fields.topic}"
        if not key:
            raise SinkError(
                reason="KeyInvalid",
                doing=doing,
                cause="the key is empty",
                remedy="mend the template of the key (operator)",
            )
        limit = (self._topic.max_message_bytes if self._topic is not None else None) or _LARGEST
        size = record_size_bytes(Record(self._fields.topic, 0, key.encode(), value))
        if size > limit:
            raise SinkError(
                reason="ValueTooLarge",
                doing=doing,
                cause=f"the record takes {size} bytes, and the topic {limit}",
                remedy="raise the topic's max.message.bytes (operator), or publish less (publisher)",
            )

    async def list(self, prefix: str) -> Mapping[str, Entry]:
        """Read the topic to its end."""
        held = await self._asked(f"reading topic {self._fields.topic}", self._read())
        return {key: entry for key, entry in held.items() if key.startswith(prefix)}

    async def keys(self, prefix: str) -> frozenset[str]:
        """The keys of `list`."""
        return frozenset(await self.list(prefix))

    async def get(self, key: str) -> Entry | None:
        """Read the key's partition to its end."""
        held = await self._asked(f"reading topic {self._fields.topic}", self._read(key))
        return held.get(key)

    async def put(self, key: str, value: bytes, replaced: Entry | None) -> None:
        """A transaction of one record."""
        self.check(key, value)
        await self.write(Diff({key: value}, ()))

    async def delete(self, key: str, replaced: Entry) -> None:
        """A transaction of one tombstone."""
        await self.write(Diff({}, (key,)))

    async def write(self, diff: Diff) -> None:
        """One transaction of all puts and deletes."""
        await self._asked(f"writing to topic {self._fields.topic}", self._write(diff))

    async def probe(self) -> str:
        """Whether the topic is there, or will be created."""
        topics = self._open()[1]
        found = await self._asked(f"looking at topic {self._fields.topic}", topics.describe([self._fields.topic]))
        if self._fields.topic in found:
            return f"topic {self._fields.topic} is there"
        if self._fields.create_topic:
            return f"topic {self._fields.topic} does not exist yet; it is created at the first write"
        raise SinkError(
            reason="StoreRefused",
            doing=f"looking at topic {self._fields.topic}",
            cause="it does not exist, and create_topic is false",
            remedy="create it with cleanup.policy=compact (operator)",
        )

    async def close(self) -> None:
        """End the clients."""
        clients, self._clients, self._topics, self._topic = self._clients, None, None, None
        if clients is not None:
            await clients.__aexit__(None, None, None)

    async def _read(self, key: str | None = None) -> dict[str, Entry]:
        clients, topics = self._open()
        topic = await self._ready(topics)
        numbers = list(range(topic.partitions)) if key is None else [partition_for(key.encode(), topic.partitions)]
        restored = await Changelog(clients, topics).read(topic.name, numbers, lambda record: record.value or b"")
        held: dict[str, Entry] = {}
        for partition in restored.values():
            for name, value in partition.entries.items():
                with contextlib.suppress(UnicodeDecodeError):  # a key that is no text is another's
                    held[name.decode("utf-8")] = Entry(value)
        return held

    async def _write(self, diff: Diff) -> None:
        clients, topics = self._open()
        topic = await self._ready(topics)
        writes: dict[str, bytes | None] = {**diff.puts, **dict.fromkeys(diff.deletes)}
        records = [
            Record(topic.name, partition_for(key.encode(), topic.partitions), key.encode(), value)
            for key, value in sorted(writes.items())
        ]
        doing = f"writing {len(records)} records to topic {topic.name}"
        await commit_batch(clients, self._transactional_id, records, topic.max_message_bytes, doing)

    async def _ready(self, topics: Topics) -> Topic:
        if self._topic is None:
            spec = compacted_topic(self._fields.topic, partitions=self._fields.partitions, max_value_size=_LARGEST)
            manage: Manage = "create" if self._fields.create_topic else "check"
            self._topic = (await topics.ensure([spec], manage))[spec.name]
        return self._topic

    def _open(self) -> tuple[Clients, Topics]:
        if self._clients is None or self._topics is None:
            self._clients = Clients(self._properties)
            self._topics = Topics(self._clients)
        return self._clients, self._topics

    async def _asked(self, doing: str, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except OutputError as error:
            reason = _REASONS.get(error.reason, "StoreRefused")
            raise SinkError(reason=reason, doing=doing, cause=error.cause, remedy=error.remedy) from error


def transactional_id(flow: str, task: str) -> str:
    """The id that fences a second writer of the same store."""
    return f"oci-sync-store-{flow}-{task}"


def properties_of(worker: Mapping[str, Property], own: Mapping[str, Property]) -> dict[str, Property]:
    """The librdkafka properties of a store. Another cluster is not told how this worker logs in to its own."""
    if "bootstrap.servers" in own:
        worker = {name: value for name, value in worker.items() if not name.startswith(_LOGIN)}
    return {**worker, **own}


def build(fields: Fields, parts: Parts) -> Store:
    """The topic of one task; touches no network."""
    return KafkaTopicStore(fields, parts.kafka, parts.flow)


def check(fields: Fields) -> list[str]:
    """What is wrong with the key's template."""
    return check_store(fields)
