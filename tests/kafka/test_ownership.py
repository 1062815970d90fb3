"""The source half's member of a group, by a consumer in memory: what becomes of it when its polling ends."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connector.errors import OutputError
from connector.kafka.ownership import Ownership
from connector.kafka.record import Record
from tests.fakes.consumer import Clients, Consumer, Message

TOPIC = "offsets"
JOINED = frozenset([0])


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
    consumer, owner = Consumer(JOINED, KafkaException(KafkaError(KafkaError._STATE))), Owner()
    async with asyncio.timeout(5), _ownership(consumer, owner) as ownership:
        await owner.ended.wait()

        assert owner.failures == [("KafkaRefused", True)]
        assert ownership.generation == -1

    assert owner.lost == {0}
    assert consumer.is_closed


async def test_a_connection_that_fails_in_the_call_ends_the_member_too() -> None:
    owner = Owner()
    async with (
        asyncio.timeout(5),
        _ownership(Consumer(JOINED, KafkaException(KafkaError(KafkaError._TRANSPORT))), owner),
    ):
        await owner.ended.wait()

    assert owner.failures == [("KafkaRefused", True)]


async def test_an_unreadable_proof_of_membership_ends_the_member_and_says_why() -> None:
    owner = Owner()
    async with asyncio.timeout(5), _ownership(Consumer(JOINED, metadata=b"CGMDv9:"), owner):
        await owner.told_fatal.wait()

    assert owner.failures == [("NotOwner", True)]


async def test_a_fatal_error_is_told_though_one_of_its_kind_was_told_before() -> None:
    passing, fatal = Message(KafkaError(KafkaError._FAIL)), Message(KafkaError(KafkaError._FATAL))
    owner = Owner()
    async with asyncio.timeout(5), _ownership(Consumer(JOINED, passing, passing, fatal, fatal), owner):
        await owner.told_fatal.wait()

    assert owner.failures == [("KafkaRefused", False), ("KafkaRefused", True)]


async def test_a_member_that_finds_no_broker_though_others_do_joins_anew() -> None:
    owner = Owner()

    def lose_all_brokers() -> None:
        stranded.is_stranded = True
        clients.times_down += 1

    stranded, second = Consumer(JOINED, lose_all_brokers), Consumer(frozenset([1]))
    clients: Any = Clients(stranded, second)
    async with (
        asyncio.timeout(5),
        Ownership(clients, topic=TOPIC, group="g", owner=owner, control_prefix=b"request.", patience_seconds=0),
    ):
        await owner.ended.wait()
        owner.joined.clear()
        await owner.joined.wait()

        assert owner.lost == {0}
        assert stranded.is_closed
        assert not second.is_closed
    assert owner.failures == []
    assert owner.lost == {0, 1}


async def test_a_bug_in_the_polling_thread_ends_the_member_and_reaches_the_top() -> None:
    def broken() -> None:
        raise ValueError("a partition that is running cannot be assigned")

    owner = Owner(broken)

    async def take_part() -> None:
        async with asyncio.timeout(5), _ownership(Consumer(JOINED), owner):
            await owner.told_fatal.wait()

    with pytest.raises(ValueError, match="cannot be assigned"):
        await take_part()

    assert owner.failures == [("KafkaRefused", True)]


async def test_a_client_that_fails_while_the_member_leaves_is_no_news() -> None:
    owner, left = Owner(), threading.Event()

    def wait() -> None:
        left.wait(5)
        raise KafkaException(KafkaError(KafkaError._STATE))

    consumer = Consumer(JOINED, wait)
    async with asyncio.timeout(5), _ownership(consumer, owner):
        await owner.joined.wait()
        asyncio.get_running_loop().call_later(0.05, left.set)

    assert owner.failures == []
