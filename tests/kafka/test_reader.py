"""A reading that follows a topic, by consumers in memory: what becomes of it when its client is stranded."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connector.kafka.reader import TopicReader

TOPIC = "oci.rules"


class Message:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def error(self) -> None:
        return None

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

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (1, 0)


class Consumer:
    """Hands out these offsets, one a poll, from where it is assigned; afterwards `silent` is called."""

    def __init__(self, *offsets: int, silent: Callable[[], None] = lambda: None) -> None:
        self._offsets = list(offsets)
        self._silent = silent
        self._position = -1001
        self.is_stranded = self.is_closed = False
        self.assigned: list[tuple[int, int]] = []

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned = [(at.partition, at.offset) for at in partitions]

    def consume(self, limit: int, seconds: float) -> list[Message]:
        if not self._offsets:
            self._silent()
            return []
        self._position = self._offsets[0] + 1
        return [Message(self._offsets.pop(0))]

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        return [
            TopicPartition(at.topic, at.partition, self._position if at.partition == 0 else -1001) for at in partitions
        ]

    def list_topics(self, topic: str | None, timeout: float) -> SimpleNamespace:
        if self.is_stranded:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(brokers={1: "a broker"})

    def close(self) -> None:
        self.is_closed = True


class Clients:
    """What TopicReader asks of `Clients`."""

    bootstrap = "broker:9092"

    def __init__(self, *consumers: Consumer) -> None:
        self._consumers = list(consumers)
        self.times_down = 0

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    def consumer(self, group: str, properties: Mapping[str, Any]) -> Consumer:
        return self._consumers.pop(0)

    def admin(self) -> Consumer:
        return Consumer()

    def heard_from_broker(self) -> None:
        pass


class Topics:
    """A topic of two partitions that begin at 5; the second stays empty."""

    async def describe(self, names: Sequence[str]) -> dict[str, SimpleNamespace]:
        return {TOPIC: SimpleNamespace(partitions=2)}

    async def start_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 5)

    async def end_offsets(self, topic: str, partitions: Sequence[int], *, committed: bool) -> dict[int, int]:
        return dict.fromkeys(partitions, 5)


async def test_a_follower_that_finds_no_broker_though_others_do_reads_on_where_it_stood() -> None:
    def lose_all_brokers() -> None:
        stranded.is_stranded = True
        clients.times_down += 1

    stranded, second = Consumer(5, 6, silent=lose_all_brokers), Consumer(7)
    clients: Any = Clients(stranded, second)
    topics: Any = Topics()
    seen: list[int] = []
    async with asyncio.timeout(5), TopicReader(clients, topics, TOPIC, patience_seconds=0) as reader:
        async for records in reader.batches(follow=True):
            seen += [record.offset for record in records]
            if seen[-1] == 7:
                break

    assert seen == [5, 6, 7]
    assert stranded.is_closed
    assert stranded.assigned == [(0, 5), (1, 5)]
    assert second.assigned == [(0, 7), (1, 5)]
