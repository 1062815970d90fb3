"""The source half's member of a group, by a consumer in memory: what becomes of it when its polling ends."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connector.errors import OutputError
from connector.kafka.ownership import Ownership
from connector.kafka.record import Record

TOPIC = "offsets"
METADATA = b"CGMDv2:" + (3).to_bytes(4, "little") + b"group\0member\0\0"


class Message:
    """An error, as the client hands it out."""

    def __init__(self, error: KafkaError) -> None:
        self._error = error

    def error(self) -> KafkaError:
        return self._error


class Consumer:
    """Is assigned partition 0 at its first poll; each later poll gives, or raises, the next of `turns`."""

    def __init__(self, *turns: Message | Exception, metadata: bytes = METADATA) -> None:
        self.turns = list(turns)
        self.is_closed = False
        self._metadata = metadata
        self._callbacks: dict[str, Any] = {}
        self._is_new = True

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self._callbacks = callbacks

    def poll(self, seconds: float) -> Message | None:
        if self._is_new:
            self._is_new = False
            self._callbacks["on_assign"](self, [TopicPartition(TOPIC, 0)])
            return None
        if not self.turns:
            return None
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    def assign(self, partitions: list[TopicPartition]) -> None:
        pass

    def consumer_group_metadata(self) -> bytes:
        return self._metadata

    def close(self) -> None:
        self.is_closed = True


class Clients:
    """What Ownership asks of `Clients`."""

    def __init__(self, consumer: Consumer) -> None:
        self.made = consumer

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    def consumer(self, group: str, properties: Mapping[str, Any]) -> Consumer:
        return self.made

    def error(self, doing: str, error: KafkaError) -> OutputError:
        return OutputError(reason="KafkaRefused", doing=doing, cause=error.str(), remedy="none")

    def heard_from_broker(self) -> None:
        pass


class Owner:
    """Notes what it is told; `assigned` does what the test says."""

    def __init__(self, on_assigned: Callable[[], None] = lambda: None) -> None:
        self.failures: list[tuple[str, bool]] = []
        self.lost: set[int] = set()
        self.joined = asyncio.Event()
        self.ended = asyncio.Event()
        self.told_fatal = asyncio.Event()
        self._on_assigned = on_assigned

    async def assigned(self, partitions: frozenset[int]) -> None:
        self._on_assigned()
        self.joined.set()

    async def revoked(self, partitions: frozenset[int], *, lost: bool) -> None:
        self.lost |= partitions
        self.ended.set()

    async def group_failed(self, error: OutputError, *, fatal: bool) -> None:
        self.failures.append((error.reason, fatal))
        if fatal:
            self.told_fatal.set()

    def polled(self) -> None:
        pass

    def noticed(self, record: Record) -> None:
        pass


def _ownership(consumer: Consumer, owner: Owner) -> Ownership:
    clients: Any = Clients(consumer)
    return Ownership(clients, topic=TOPIC, group="g", owner=owner, control_prefix=b"request.")


async def test_a_client_that_fails_while_it_is_polled_ends_the_member_for_good() -> None:
    consumer, owner = Consumer(KafkaException(KafkaError(KafkaError._STATE))), Owner()
    async with asyncio.timeout(5), _ownership(consumer, owner) as ownership:
        await owner.ended.wait()

        assert owner.failures == [("KafkaRefused", True)]
        assert ownership.generation == -1

    assert owner.lost == {0}
    assert consumer.is_closed


async def test_a_connection_that_fails_in_the_call_ends_the_member_too() -> None:
    owner = Owner()
    async with asyncio.timeout(5), _ownership(Consumer(KafkaException(KafkaError(KafkaError._TRANSPORT))), owner):
        await owner.ended.wait()

    assert owner.failures == [("KafkaRefused", True)]


async def test_an_unreadable_proof_of_membership_ends_the_member_and_says_why() -> None:
    owner = Owner()
    async with asyncio.timeout(5), _ownership(Consumer(metadata=b"CGMDv9:"), owner):
        await owner.told_fatal.wait()

    assert owner.failures == [("NotOwner", True)]


async def test_a_fatal_error_is_told_though_one_of_its_kind_was_told_before() -> None:
    passing, fatal = Message(KafkaError(KafkaError._FAIL)), Message(KafkaError(KafkaError._FATAL))
    owner = Owner()
    async with asyncio.timeout(5), _ownership(Consumer(passing, passing, fatal, fatal), owner):
        await owner.told_fatal.wait()

    assert owner.failures == [("KafkaRefused", False), ("KafkaRefused", True)]


async def test_a_bug_in_the_polling_thread_ends_the_member_and_reaches_the_top() -> None:
    def broken() -> None:
        raise ValueError("a partition that is running cannot be assigned")

    owner = Owner(broken)

    async def take_part() -> None:
        async with asyncio.timeout(5), _ownership(Consumer(), owner):
            await owner.told_fatal.wait()

    with pytest.raises(ValueError, match="cannot be assigned"):
        await take_part()

    assert owner.failures == [("KafkaRefused", True)]


async def test_a_client_that_fails_while_the_member_leaves_is_no_news() -> None:
    owner = Owner()
    consumer = Consumer()
    async with asyncio.timeout(5), _ownership(consumer, owner) as ownership:
        await owner.joined.wait()

        def stopping(seconds: float) -> None:
            ownership._stop.wait(5)
            raise KafkaException(KafkaError(KafkaError._STATE))

        consumer.poll = stopping  # type: ignore[method-assign]  # the consumer is a fake

    assert owner.failures == []
