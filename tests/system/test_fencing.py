"""The three ways to commit unfenced: what the broker does with each, and that our code refuses it before the wire.

The holes are shown with bare librdkafka, so that a broker or client that closes one is noticed here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from connector.errors import OutputError
from connector.kafka.attempt import Prover
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients
from connector.kafka.membership import Fence, fence, read_membership
from connector.kafka.ownership import Ownership
from connector.kafka.record import Record
from connector.kafka.topics import Topics, layer_topic, offsets_topic
from connector.kafka.transaction import TRANSACTION_SECONDS, Transactions
from tests.system.servers import Broker

pytestmark = pytest.mark.system


class Owner:
    """An owner that only notes what it is told."""

    def __init__(self) -> None:
        self.partitions: set[int] = set()
        self.joined = asyncio.Event()

    async def assigned(self, partitions: frozenset[int]) -> None:
        self.partitions |= partitions
        self.joined.set()

    async def revoked(self, partitions: frozenset[int], *, lost: bool) -> None:
        self.partitions -= partitions

    async def group_failed(self, error: OutputError, *, fatal: bool) -> None:
        if fatal or error.reason != "KafkaUnreachable":  # a broker is frozen on purpose
            raise error

    def polled(self) -> None:
        pass

    def noticed(self, record: Record) -> None:
        pass


async def make_topics(topics: Topics, name: str) -> dict[str, int | None]:
    specs = [
        offsets_topic(f"o-{name}", partitions=4, replication_factor=1),
        layer_topic(f"l-{name}", partitions=1, replication_factor=1, max_file_size=1_000_000),
    ]
    found = await topics.ensure(specs, "create")
    return {topic.name: topic.max_message_bytes for topic in found.values()}


def record(name: str, text: str) -> Record:
    return Record(f"l-{name}", 0, text.encode(), b"value")


@asynccontextmanager
async def joined(kafka: Broker, group: str, topic: str) -> AsyncIterator[Consumer]:
    """A bare member of the group. Joins in a thread, since the other members answer on this loop."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "auto.offset.reset": "latest"})
    consumer.subscribe([topic])
    try:
        async with asyncio.timeout(30):
            while not consumer.assignment():
                await asyncio.to_thread(consumer.poll, 0.1)
        yield consumer
    finally:
        await asyncio.to_thread(consumer.close)


def commit_with(kafka: Broker, name: str, offsets: list[TopicPartition], metadata: bytes) -> None:
    """One bare transaction of a ghost."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"ghost-{name}"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(f"l-{name}", b"value", b"ghost", partition=0)
    producer.send_offsets_to_transaction(offsets, metadata, 10)
    producer.commit_transaction(10)


async def visible(topics: Topics, clients: Clients, topic: str) -> set[bytes]:
    restored = await Changelog(clients, topics).read(topic, [0], lambda entry: entry.key)
    return set(restored[0].entries)


@pytest.mark.parametrize("hole", ["never joined", "no offset", "foreign partition"])
async def test_what_the_broker_takes_unfenced_our_fence_refuses(kafka: Broker, unique: str, hole: str) -> None:
    async with Clients({"bootstrap.servers": kafka.bootstrap}) as clients:
        topics = Topics(clients)
        await make_topics(topics, unique)
        topic, group = f"o-{unique}", f"g-{unique}"
        async with joined(kafka, group, topic) as member:
            stranger = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
            metadata = (stranger if hole == "never joined" else member).consumer_group_metadata() or b""
            owned = set() if hole == "never joined" else {0, 1, 2}
            positions = {} if hole == "no offset" else {3: 0}

            offsets = [TopicPartition(topic, partition, position) for partition, position in positions.items()]
            await asyncio.to_thread(commit_with, kafka, unique, offsets, metadata)
            assert b"ghost" in await visible(topics, clients, f"l-{unique}"), "the hole is closed: simplify the guard"

            with pytest.raises(OutputError) as caught:
                fence(read_membership(metadata, owned), topic, positions)
            assert caught.value.reason == "NotOwner"
            stranger.close()


@dataclass(frozen=True)
class Member:
    """A worker's place in the group of a test, and the topics of that test."""

    name: str
    clients: Clients
    topics: Topics
    limits: dict[str, int | None]
    ownership: Ownership

    def transactions(
        self, partition: int, prover: Prover | None = None, seconds: float = TRANSACTION_SECONDS
    ) -> Transactions:
        """What the owner of `partition` writes with."""
        return Transactions(
            self.clients, prover or self.ownership, Changelog(self.clients, self.topics),
            group=f"g-{self.name}", offsets_topic=f"o-{self.name}", partition=partition, timeout_seconds=seconds,
        )  # fmt: skip

    async def visible(self) -> set[bytes]:
        """The keys that a committed reader of the records sees."""
        return await visible(self.topics, self.clients, f"l-{self.name}")


@asynccontextmanager
async def member(kafka: Broker, name: str) -> AsyncIterator[Member]:
    """The only member of the group, which owns all partitions."""
    async with Clients({"bootstrap.servers": kafka.bootstrap}) as clients:
        topics = Topics(clients)
        limits = await make_topics(topics, name)
        owner = Owner()
        async with Ownership(
            clients, topic=f"o-{name}", group=f"g-{name}", owner=owner, control_prefix=b"request."
        ) as ownership:
            await asyncio.wait_for(owner.joined.wait(), 20)
            yield Member(name, clients, topics, limits, ownership)


async def test_a_member_of_an_old_generation_leaves_nothing_visible(kafka: Broker, unique: str) -> None:
    async with member(kafka, unique) as us:
        old = us.ownership.fence({1: 0})

        class Stale:
            def fence(self, positions: dict[int, int]) -> Fence:
                return old

        async with joined(kafka, f"g-{unique}", f"o-{unique}"):
            with pytest.raises(OutputError) as caught:
                await us.transactions(1, Stale()).commit(
                    [record(unique, "stale")], Record(f"o-{unique}", 1, b"k", b"v"), 0, us.limits
                )

        assert caught.value.reason == "NotOwner"
        assert await us.visible() == set()


async def test_the_owner_commits_and_a_record_that_fails_midway_takes_all_with_it(kafka: Broker, unique: str) -> None:
    async with member(kafka, unique) as us:
        transactions = us.transactions(2)
        offset = Record(f"o-{unique}", 2, b"k", b"v")
        broken = [record(unique, "one"), Record(f"l-{unique}", 7, b"no such partition", b"x")]

        with pytest.raises(OutputError):
            await transactions.commit(broken, offset, 0, us.limits)
        after_failure = await us.visible()
        committed = await transactions.commit([record(unique, "two")], offset, 0, us.limits)

        assert after_failure == set()
        assert committed.records == 2
        assert await us.visible() == {b"two"}


async def test_a_commit_whose_answer_is_lost_is_settled_by_reading_the_offset_back(kafka: Broker, unique: str) -> None:
    """The broker is frozen while the commit is under way, past the deadline of the transaction."""
    async with member(kafka, unique) as us:
        transactions = us.transactions(0, seconds=4.0)
        await transactions.initialise(us.limits)
        loop = asyncio.get_running_loop()

        def frozen_records() -> Iterator[Record]:
            yield record(unique, "lost answer")
            kafka.pause()
            loop.call_soon_threadsafe(loop.call_later, 6.0, kafka.resume)

        class Once:
            """The size check iterates first; only the second pass freezes the broker."""

            passes = 0

            def __iter__(self) -> Iterator[Record]:
                self.passes += 1
                return frozen_records() if self.passes == 2 else iter([record(unique, "lost answer")])

        offset = Record(f"o-{unique}", 0, b"k", b"pull-1")
        try:
            await transactions.commit(Once(), offset, 0, us.limits)
            outcome = "committed"
        except (OutputError, KafkaException):
            outcome = "not committed"

        seen = await us.visible()
        restored = await Changelog(us.clients, us.topics).read(f"o-{unique}", [0], lambda entry: entry.value)

        # Whatever the outcome was, what we say, the records and the offset agree.
        assert (outcome == "committed") == (b"lost answer" in seen) == (restored[0].entries.get(b"k") == b"pull-1")
