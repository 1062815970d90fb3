"""A member of a consumer group that reads each partition it is assigned from the beginning: what the sink half follows.

Rules. (1) `read_committed`, and nothing is committed unless asked. (2) A partition is read from its beginning whatever
the group committed, for the topic is the state (see `sink/pipeline.py`). (3) Positions are what was delivered, or the
offset of an end-of-partition event: behind the last record may lie control records that never are. (4) Calls wait
for one another; between two polls less than max.poll.interval.ms may pass. (5) A member whose client finds no broker
any more, though others do, joins anew.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from connector.kafka.assignment import Assigned, Place, Polled, Revoked
from connector.kafka.changelog import record_of
from connector.kafka.clients import Clients, Property, kafka_error_of
from connector.kafka.group_properties import group_properties, is_incremental
from connector.kafka.record import Record
from connector.kafka.stranding import PATIENCE_SECONDS, Stranding

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

_ASK_SECONDS = 10.0
# Errors that pass by themselves, or that the next poll says again if they do not.
_PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._MAX_POLL_EXCEEDED)


class GroupFeed:
    """One member; `async with` joins at the first poll and leaves at the end."""

    def __init__(
        self,
        clients: Clients,
        *,
        group: str,
        topics: Sequence[str],
        instance_id: str | None = None,
        properties: Mapping[str, Property] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._clients = clients
        self._group = group
        self._topics = list(topics)
        self._properties: dict[str, Property] = {
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            # A topic that does not exist yet is looked for this often; the default is five minutes.
            "topic.metadata.refresh.interval.ms": 10_000,
            **group_properties(properties or {}, instance_id),
        }
        self._incremental = is_incremental(self._properties)
        # One thread, since a cancelled poll goes on until its time-out and nothing may run beside it; and its own one,
        # for many feeds that wait a second each would hold up all other calls.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"feed-{group}")
        self._consumer: Consumer | None = None
        self._stranding = Stranding(clients, patience_seconds)
        self._changes: list[Assigned | Revoked] = []
        self._positions: dict[Place, int] = {}
        self._failed: KafkaError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._in_turn(self._close)
        self._thread.shutdown(wait=False)

    def __repr__(self) -> str:
        return f"<GroupFeed group={self._group} topics={self._topics} positions={self._positions}>"

    async def poll(self, limit: int, timeout_seconds: float) -> Polled:
        """At most `limit` records, as soon as there are any. Raises OutputError."""
        return await self._in_turn(self._poll, limit, timeout_seconds)

    async def commit(self, topic: str, partition: int, next_offset: int) -> None:
        """Commit the group's offset. Raises OutputError, NotOwner where the partition is not ours any more."""
        await self._in_turn(self._commit, TopicPartition(topic, partition, next_offset))

    async def _in_turn(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _poll(self, limit: int, timeout_seconds: float) -> Polled:
        # What came before an error is handed out first: it was taken from the client, which gives it once.
        failed, self._failed = self._failed, None
        if failed is not None:
            raise self._clients.error(self._doing, failed)
        consumer = self._subscribed()
        records: list[Record] = []
        try:
            for message in self._messages(consumer, limit, timeout_seconds):
                error = message.error()
                place = (message.topic() or "", message.partition() or 0)
                if error is None:
                    record = record_of(message)
                    records.append(record)
                    self._positions[place] = record.offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._positions[place] = message.offset() or 0
                elif error.code() not in _PASSING:
                    self._failed = error
        except KafkaException as raised:
            # Of an assignment, most likely; the client then reads on from where it likes. So join anew, from the
            # beginning: the records of this poll come again, and the next one tells of what the close revoked.
            self._failed = None
            self._leave(consumer)
            raise self._clients.error(self._doing, kafka_error_of(raised)) from raised
        if self._failed is not None and not records:
            failed, self._failed = self._failed, None
            raise self._clients.error(self._doing, failed)
        if records:
            self._clients.heard_from_broker()
        elif self._stranding.found(consumer, self._topics[0]):
            _LOG.warning("%s: this member finds no broker any more, though others do; it joins anew", self._doing)
            self._leave(consumer)
        elif self._stranding.in_doubt:  # said to a callback, never as a message
            raise self._clients.error(self._doing, KafkaError(KafkaError._ALL_BROKERS_DOWN))
        ends = {place: self._end(consumer, place) for place in self._positions}
        changes, self._changes = tuple(self._changes), []
        return Polled(changes, tuple(records), dict(self._positions), ends)

    def _leave(self, consumer: Consumer) -> None:
        self._consumer = None
        self._stranding.renew()
        consumer.close()
        self._forget(list(self._positions))  # what it did not tell of while it closed

    def _forget(self, places: Sequence[Place]) -> None:
        for place in places:
            self._positions.pop(place, None)
            self._changes.append(Revoked(*place))

    @staticmethod
    def _messages(consumer: Consumer, limit: int, timeout_seconds: float) -> Iterator[Message]:
        # `consume` waits until it has all it may take; so wait for one, and take what is there beside it.
        first = consumer.poll(timeout_seconds)
        if first is not None:
            yield first
            yield from consumer.consume(max(1, limit - 1), 0)

    def _commit(self, offset: TopicPartition) -> None:
        doing = f"committing {offset.topic}[{offset.partition}] for group {self._group}"
        try:
            for committed in self._subscribed().commit(offsets=[offset], asynchronous=False) or ():
                if committed.error is not None:
                    raise self._clients.error(doing, committed.error)
        except KafkaException as error:
            raise self._clients.error(doing, kafka_error_of(error)) from error

    def _subscribed(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._clients.consumer(self._group, self._properties)
            self._consumer.subscribe(
                self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
        return self._consumer

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        committed = {
            (at.topic, at.partition): max(-1, at.offset) for at in consumer.committed(list(partitions), _ASK_SECONDS)
        } if partitions else {}  # fmt: skip
        for partition in partitions:
            place = (partition.topic, partition.partition)
            # On a read_committed consumer this is the last stable offset, which an open transaction holds back.
            low, end = consumer.get_watermark_offsets(partition, _ASK_SECONDS)
            self._positions[place] = low
            self._changes.append(Assigned(*place, end, committed.get(place, -1)))
        at_beginning = [TopicPartition(at.topic, at.partition, OFFSET_BEGINNING) for at in partitions]
        if self._incremental:
            consumer.incremental_assign(at_beginning)
        else:
            consumer.assign(at_beginning)
        self._clients.heard_from_broker()

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._forget([(at.topic, at.partition) for at in partitions])
        if self._incremental:
            consumer.incremental_unassign(list(partitions))
        else:
            consumer.unassign()

    def _end(self, consumer: Consumer, place: Place) -> int:
        _, known = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
        return max(self._positions[place], known)

    @property
    def _doing(self) -> str:
        return f"reading {', '.join(self._topics)} as group {self._group}"
