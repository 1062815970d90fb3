"""Read compacted partitions up to their end: how an owner restores what its predecessors committed.

Rules (kafka.md, section 5). (1) The end is the high watermark, asked of the broker with read_uncommitted; the reader is
read_committed. (2) A partition is done when the reader's *position* reaches the end: the last offset may be a control
record or compacted away. (3) No progress for `stall_seconds`: the last stable offset tells whether an open transaction
blocks (named where the cluster lets us), or the log was cut; either way it fails rather than wait for ever.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Generic, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from msgspec import Struct

from connector.errors import OutputError
from connector.kafka.clients import Clients, kafka_error_of
from connector.kafka.record import Record
from connector.kafka.topics import Place, Topics

T = TypeVar("T")

# `consume` waits this long for a full batch, so it is also the price of the last one.
_POLL_SECONDS = 0.005
_BATCH = 500
# `assign` only: the group is named because librdkafka wants one; nothing is ever committed under it.
_GROUP = "oci-sync-restore"
# So that nobody need be allowed to use it: the client looks for the group's coordinator all the same.
NO_GROUP = KafkaError.GROUP_AUTHORIZATION_FAILED


class Restored(Struct, Generic[T], frozen=True):
    """The newest value of each live key of a partition, and the position behind its last record."""

    position: int
    entries: Mapping[bytes, T]


class Changelog:
    """Reads partitions of compacted topics; stateless between calls."""

    def __init__(self, clients: Clients, topics: Topics, *, stall_seconds: float = 60.0) -> None:
        self._clients = clients
        self._topics = topics
        self._stall_seconds = stall_seconds

    async def read(self, topic: str, partitions: Sequence[int], keep: Callable[[Record], T]) -> dict[int, Restored[T]]:
        """What each partition holds now, tombstones applied; `keep` reduces a record to what the caller needs.

        Raises OutputError RestoreStalled, KafkaUnreachable, NotAuthorized, TopicMissing.
        """
        ends = await self._topics.end_offsets(topic, partitions, committed=False)
        starts = await self._topics.start_offsets(topic, partitions)
        empty: dict[int, Restored[T]] = {
            partition: Restored(ends[partition], {}) for partition in partitions if starts[partition] >= ends[partition]
        }
        waiting = {partition: ends[partition] for partition in partitions if partition not in empty}
        if not waiting:
            return empty
        stop = threading.Event()
        try:
            found, stalled = await self._clients.call(self._read, topic, starts, waiting, keep, stop)
        finally:
            stop.set()
        if stalled:
            raise await self._stalled(topic, stalled)
        return empty | found

    async def is_empty(self, topic: str, partition: int) -> bool:
        """Whether the partition holds no record at all. Raises OutputError."""
        end = (await self._topics.end_offsets(topic, [partition], committed=False))[partition]
        return end == 0 or (await self._topics.start_offsets(topic, [partition]))[partition] >= end

    async def held_back(self, places: Sequence[Place]) -> dict[Place, int]:
        """Those partitions whose readers an open transaction holds back, and at which offset. Raises OutputError."""
        return await self._topics.held_back(places)

    def _read(
        self,
        topic: str,
        starts: Mapping[int, int],
        ends: Mapping[int, int],
        keep: Callable[[Record], T],
        stop: threading.Event,
    ) -> tuple[dict[int, Restored[T]], dict[int, tuple[int, int]]]:
        """Restored partitions, and for those without progress (position, end). Runs in a thread."""
        consumer = self._clients.consumer(
            _GROUP,
            {"auto.offset.reset": "error", "enable.partition.eof": True, "fetch.wait.max.ms": 10},
        )
        entries: dict[int, dict[bytes, T]] = {partition: {} for partition in ends}
        positions = {partition: starts[partition] for partition in ends}
        moved = monotonic()
        try:
            consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in ends])
            while not stop.is_set():
                for message in consumer.consume(_BATCH, _POLL_SECONDS):
                    self._take(message, entries, keep)
                if self._advance(consumer, topic, ends, positions):
                    moved = monotonic()
                if all(positions[partition] >= end for partition, end in ends.items()):
                    return {p: Restored(max(positions[p], ends[p]), entries[p]) for p in ends}, {}
                if monotonic() - moved > self._stall_seconds:
                    break
            return {}, {p: (positions[p], end) for p, end in ends.items() if positions[p] < end}
        except KafkaException as error:
            raise self._clients.error(f"reading {topic}", kafka_error_of(error)) from error
        finally:
            consumer.close()

    def _take(self, message: Message, entries: dict[int, dict[bytes, T]], keep: Callable[[Record], T]) -> None:
        error = message.error()
        if error is not None:
            # Position, not the end-of-partition event, says when it is done; a lost broker shows as no progress.
            if error.code() == KafkaError._PARTITION_EOF or error.retriable():
                return
            if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, NO_GROUP):
                return
            # An error of the client as a whole names no topic.
            place = f"{message.topic()}[{message.partition()}]" if message.topic() else f"partitions {sorted(entries)}"
            raise self._clients.error(f"reading {place}", error)
        record = record_of(message)
        held = entries[record.partition]
        if record.value is None:
            held.pop(record.key, None)
        else:
            held[record.key] = keep(record)

    @staticmethod
    def _advance(consumer: Consumer, topic: str, ends: Mapping[int, int], positions: dict[int, int]) -> bool:
        """Note where the reader stands; whether any partition moved. A negative position is no position yet."""
        moved = False
        for at in consumer.position([TopicPartition(topic, partition) for partition in ends]):
            if at.offset > positions[at.partition]:
                positions[at.partition] = at.offset
                moved = True
        return moved

    async def _stalled(self, topic: str, stalled: Mapping[int, tuple[int, int]]) -> OutputError:
        partition, (position, end) = next(iter(stalled.items()))
        high = (await self._topics.end_offsets(topic, [partition], committed=False))[partition]
        stable = (await self._topics.end_offsets(topic, [partition], committed=True))[partition]
        if high < end:
            cause = f"the log was cut: it ended at {end} and now ends at {high}; acknowledged records are lost"
            remedy = "find out which broker lost data; then restart the worker, which re-emits in full (operator)"
        elif stable < high:
            cause = f"an open transaction holds readers at {stable} of {high}"
            remedy = (
                f"kafka-transactions.sh --bootstrap-server {self._clients.bootstrap} find-hanging --topic {topic} "
                f"--partition {partition}, then abort it, or wait for its time-out (operator)"
            )
        else:
            cause = f"no record arrives between {position} and {end}"
            remedy = "check the partition's leader and the brokers' logs (operator)"
        return OutputError(
            reason="RestoreStalled",
            doing=f"restoring {topic}[{partition}]",
            cause=f"no progress for {self._stall_seconds:.0f} s at offset {position} of {end}: {cause}",
            remedy=remedy,
        )


def record_of(message: Message) -> Record:
    """A consumed message as a Record; a header without a value counts as empty."""
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    key, value, partition, offset = message.key(), message.value(), message.partition(), message.offset()
    return Record(
        topic=message.topic() or "",
        partition=-1 if partition is None else partition,
        key=_bytes(key),
        value=None if value is None else _bytes(value),
        headers=tuple((name, _bytes(item)) for name, item in pairs),
        offset=-1 if offset is None else offset,
        timestamp_ms=message.timestamp()[1],
    )


def _bytes(value: str | bytes | None) -> bytes:
    if value is None:
        return b""
    return value.encode() if isinstance(value, str) else value
