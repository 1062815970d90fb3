"""The topic store on a real broker: the suite of every store, and a release that no reader sees half."""

from collections.abc import AsyncIterator

import pytest
from kafka import KafkaConsumer, TopicPartition

from connector.sink.parts import Parts
from connector.sink.store import Diff, Store
from connector.sink.tasks import kafka_topic_store
from tests.suites.store import StoreSuite
from tests.system.servers import Broker

pytestmark = pytest.mark.system


def make(kafka: Broker, unique: str, name: str = "save") -> Store:
    fields = kafka_topic_store.Fields(name=name, topic=f"store-{unique}", partitions=3)
    return kafka_topic_store.build(fields, Parts("f", kafka={"bootstrap.servers": kafka.bootstrap}))


class TestKafkaTopicStore(StoreSuite):
    @pytest.fixture
    async def store(self, kafka: Broker, unique: str) -> AsyncIterator[Store]:
        made = make(kafka, unique)
        yield made
        await made.close()


async def test_a_diff_is_one_transaction(kafka: Broker, unique: str) -> None:
    store = make(kafka, unique)
    assert isinstance(store, kafka_topic_store.KafkaTopicStore)
    await store.write(Diff({f"k{number}": b"1" for number in range(30)}, ()))
    await store.write(Diff({"k1": b"2"}, ("k2", "k3")))

    held = await store.list("")
    await store.close()

    assert len(held) == 28
    assert held["k1"].value == b"2"
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level="read_committed")
    partitions = [TopicPartition(f"store-{unique}", number) for number in range(3)]
    ends = consumer.end_offsets(partitions)
    consumer.close()
    # 33 records, and a marker in each partition that a transaction touched.
    assert 33 + 3 <= sum(ends.values()) <= 33 + 6
