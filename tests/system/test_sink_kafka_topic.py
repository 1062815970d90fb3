"""The topic store on a real broker: the suite of every store, and a release that no reader sees half."""

from collections.abc import AsyncIterator

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

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


async def test_a_diff_that_is_larger_than_the_client_s_queue_is_written_whole(kafka: Broker, unique: str) -> None:
    store = make(kafka, unique)
    assert isinstance(store, kafka_topic_store.KafkaTopicStore)
    values = {f"k{number}": bytes([number]) * 1_000_000 for number in range(48)}

    await store.write(Diff(values, ()))

    assert {key: entry.value for key, entry in (await store.list("")).items()} == values
    await store.close()


async def test_a_topic_that_is_made_is_compacted_and_a_key_that_is_no_text_is_left_to_its_owner(
    kafka: Broker, unique: str
) -> None:
    store = make(kafka, unique)
    await store.put("a", b"1", None)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    producer.send(f"store-{unique}", key=b"\xff\xfe", value=b"another's")
    producer.flush()
    producer.close()

    held = await store.list("")
    await store.close()

    assert {key: entry.value for key, entry in held.items()} == {"a": b"1"}
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    (answer,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, f"store-{unique}")]).values()
    assert answer.result(10)["cleanup.policy"].value == "compact"
