"""The sink's member of a group, by a consumer in memory: what one poll hands on beside an error."""

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connector.errors import OutputError
from connector.kafka.assignment import Assigned, Revoked
from connector.kafka.group_feed import GroupFeed

TOPIC = "oci.rules"


class Message:
    """A record, or an error, as the client hands it out."""

    def __init__(self, offset: int = 0, error: KafkaError | None = None) -> None:
        self._offset = offset
        self._error = error

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def headers(self) -> list[tuple[str, bytes]]:
        return []

    def timestamp(self) -> tuple[int, int]:
        return (1, 0)


class Consumer:
    """Hands out its batches; `broken` calls of `committed` fail, as while a coordinator moves."""

    def __init__(self, batches: list[list[Message]], broken: int = 0) -> None:
        self.batches = batches
        self.broken = broken
        self.assigned: list[TopicPartition] = []
        self.is_closed = False
        self.is_lost = False
        self._callbacks: dict[str, Any] = {}
        self._is_new = True

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self._callbacks = callbacks

    def poll(self, seconds: float) -> Message | None:
        if self._is_new:
            self._is_new = False
            self._callbacks["on_assign"](self, [TopicPartition(TOPIC, 0)])
        return self.batches[0].pop(0) if self.batches and self.batches[0] else None

    def consume(self, limit: int, seconds: float) -> list[Message]:
        return self.batches.pop(0) if self.batches else []

    def committed(self, partitions: list[TopicPartition], seconds: float) -> list[TopicPartition]:
        if self.broken:
            self.broken -= 1
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return partitions

    def get_watermark_offsets(self, partition: TopicPartition, *_: Any, **__: Any) -> tuple[int, int]:
        return (0, 3)

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        if self.is_lost:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(brokers={1: "a broker"})

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def unassign(self) -> None:
        self.assigned = []

    def close(self) -> None:
        self.is_closed = True
        if self.assigned:
            self._callbacks["on_revoke"](self, self.assigned)


class Clients:
    """What GroupFeed asks of `Clients`."""

    def __init__(self, *consumers: Consumer) -> None:
        self.consumers = list(consumers)
        self.is_down = self.is_outage = False
        self.times_down = 0

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    def consumer(self, group: str, properties: Mapping[str, Any]) -> Consumer:
        return self.consumers.pop(0)

    def admin(self) -> Consumer:
        client = Consumer([])
        client.is_lost = self.is_outage
        return client

    def error(self, doing: str, error: KafkaError) -> OutputError:
        return OutputError(reason="KafkaUnreachable", doing=doing, cause=error.str(), remedy="none")

    def heard_from_broker(self) -> None:
        self.is_down = False


def _feed(*consumers: Consumer) -> GroupFeed:
    return _feed_of(Clients(*consumers))


def _feed_of(clients: Clients) -> GroupFeed:
    return GroupFeed(clients, group="g", topics=[TOPIC], patience_seconds=0)  # type: ignore[arg-type]  # a fake


async def test_records_beside_an_error_are_handed_out_and_the_error_comes_next() -> None:
    lost = Message(error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    consumer = Consumer([[Message(0), Message(1), lost, Message(2)], [Message(3)]])
    async with _feed(consumer) as feed:
        polled = await feed.poll(10, 0)
        with pytest.raises(OutputError):
            await feed.poll(10, 0)
        after = await feed.poll(10, 0)

    assert [record.offset for record in polled.records] == [0, 1, 2]
    assert [record.offset for record in after.records] == [3]


async def test_an_assignment_that_failed_is_joined_anew_and_not_half_had() -> None:
    first, second = Consumer([[Message(7)]], broken=1), Consumer([[Message(0)]])
    async with _feed(first, second) as feed:
        with pytest.raises(OutputError):
            await feed.poll(10, 0)
        polled = await feed.poll(10, 0)

    assert first.is_closed
    assert [type(change) for change in polled.changes] == [Assigned]
    assert [record.offset for record in polled.records] == [0]


async def test_a_member_that_is_closed_after_its_assignment_tells_of_the_loss() -> None:
    first, second = Consumer([[Message(0)]]), Consumer([[Message(0)]])
    broken = KafkaException(KafkaError(KafkaError._FATAL))

    def consume(limit: int, seconds: float) -> list[Message]:
        raise broken

    async with _feed(first, second) as feed:
        await feed.poll(10, 0)
        first.batches.append([Message(1)])
        first.consume = consume  # type: ignore[method-assign]  # the consumer is a fake
        with pytest.raises(OutputError):
            await feed.poll(10, 0)
        again = await feed.poll(10, 0)

    assert [record.offset for record in again.records] == [0]
    assert [type(change) for change in again.changes] == [Revoked, Assigned]


async def test_brokers_that_are_all_lost_are_an_error_until_one_answers() -> None:
    consumer = Consumer([[Message(0)], [], []])
    clients = Clients(consumer)
    async with _feed_of(clients) as feed:
        await feed.poll(10, 0)
        clients.is_down = clients.is_outage = consumer.is_lost = True
        clients.times_down += 1
        with pytest.raises(OutputError):
            await feed.poll(10, 0)
        clients.is_outage = consumer.is_lost = False
        polled = await feed.poll(10, 0)

    assert polled.records == ()
    assert not clients.is_down


async def test_a_member_that_finds_no_broker_though_others_do_joins_anew_from_the_beginning() -> None:
    stranded, second = Consumer([[Message(0)], [], []]), Consumer([[Message(0)]])
    clients = Clients(stranded, second)
    async with _feed_of(clients) as feed:
        await feed.poll(10, 0)
        stranded.is_lost = True
        clients.times_down += 1
        left = await feed.poll(10, 0)
        joined = await feed.poll(10, 0)

    assert stranded.is_closed
    assert [type(change) for change in left.changes] == [Revoked]
    assert [type(change) for change in joined.changes] == [Assigned]
    assert [record.offset for record in joined.records] == [0]


async def test_a_member_that_joins_anew_is_given_time_to_find_a_broker() -> None:
    stranded, second = Consumer([[Message(0)], [], []]), Consumer([[Message(0)], [], []])
    clients = Clients(stranded, second)
    async with _feed_of(clients) as feed:
        await feed.poll(10, 0)
        stranded.is_lost = second.is_lost = True
        clients.times_down += 1
        for _ in range(3):
            await feed.poll(10, 0)

        assert stranded.is_closed
        assert not second.is_closed
