"""Transactions that their coordinator holds for ended, in partitions that never got a marker, as Kafka 4.4 leaves them.

A broker that comes back after a transaction's time-out ends it while its partitions have no leader yet, and passes
them over.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from confluent_kafka import Producer

from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients
from connector.kafka.reader import TopicReader
from connector.kafka.topics import Topics
from connector.kafka.transaction import Transactions
from tests.system.servers import Broker, start_broker
from tests.system.test_fencing import make_topics

pytestmark = pytest.mark.system

# Nothing is committed here by Transactions, so no membership has to be proven.
PROVER: Any = None


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One of our own, to kill."""
    with ExitStack() as ends:
        yield start_broker(tmp_path_factory.mktemp("broker"), ends)


def begun(broker: Broker, transactional_id: str, *places: tuple[str, int], timeout_seconds: float = 30) -> Producer:
    """A producer with an open transaction, one record in each place."""
    settings: dict[str, Any] = {
        "bootstrap.servers": broker.bootstrap,
        "transactional.id": transactional_id,
        "transaction.timeout.ms": int(timeout_seconds * 1000),
    }
    producer = Producer(settings)
    producer.init_transactions(20)
    producer.begin_transaction()
    for topic, partition in places:
        producer.produce(topic, key=b"key", value=str(timeout_seconds).encode(), partition=partition)
    assert producer.flush(10) == 0
    return producer


async def committed(clients: Clients, topics: Topics, topic: str) -> list[bytes]:
    async with TopicReader(clients, topics, topic) as reader:
        return [record.value or b"" async for batch in reader.batches() for record in batch]


async def test_what_hangs_is_ended_by_the_next_owner_and_never_seen(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    clients = Clients({"bootstrap.servers": broker.bootstrap})
    topics = Topics(clients)
    limits = await make_topics(topics, "x")
    files, offsets = ("l-x", 0), ("o-x", 0)
    begun(broker, "g-0", files, offsets, timeout_seconds=1)
    broker.kill()
    await asyncio.sleep(2)
    broker.start()
    await asyncio.sleep(3)
    ours = Transactions(clients, PROVER, Changelog(clients, topics), group="g", offsets_topic="o-x", partition=0)
    await ours.initialise(limits)
    assert await topics.held_back([files, offsets]) == {files: 0, offsets: 0}, "nothing hangs: the test tests nothing"

    await ours.end_hanging([files, offsets], limits)
    begun(broker, "g-0", files, offsets, timeout_seconds=9).commit_transaction(10)

    assert await committed(clients, topics, "l-x") == [b"9"]
    assert await committed(clients, topics, "o-x") == [b"9"]
    assert [line for line in caplog.messages if "held readers back in l-x[0] at 0, o-x[0] at 0" in line]
    caplog.clear()
    await ours.initialise(limits)
    await ours.end_hanging([files, offsets], limits)
    assert caplog.messages == []


async def test_a_transaction_of_somebody_else_stays_open(broker: Broker) -> None:
    clients = Clients({"bootstrap.servers": broker.bootstrap})
    topics = Topics(clients)
    limits = await make_topics(topics, "y")
    other = begun(broker, "h-1", ("l-y", 0))
    ours = Transactions(clients, PROVER, Changelog(clients, topics), group="h", offsets_topic="o-y", partition=0)
    await ours.initialise(limits)

    await ours.end_hanging([("l-y", 0), ("o-y", 0)], limits)
    other.commit_transaction(10)

    assert await committed(clients, topics, "l-y") == [b"30"]
