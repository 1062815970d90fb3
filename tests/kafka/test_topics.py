import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from connector.errors import OutputError
from connector.kafka.topics import Topic, Topics, layer_topic, misfits, offsets_topic, too_small

OFFSETS = offsets_topic("offs", partitions=50, replication_factor=-1)
LAYERS = layer_topic("oci.x", partitions=1, replication_factor=-1, max_file_size=10_000_000)


def test_the_topics_we_create_fit_what_we_check() -> None:
    for spec in (OFFSETS, LAYERS):
        topic = Topic(spec.name, spec.partitions, spec.config)

        assert misfits(spec, topic, "broker:9092") == []
        assert too_small(spec, topic, "broker:9092") is None


def test_a_topic_that_forgets_with_age_is_refused_with_the_command_that_mends_it() -> None:
    for spec in (OFFSETS, LAYERS):
        (cause, remedy), *_ = misfits(spec, Topic(spec.name, spec.partitions, {"cleanup.policy": "delete"}), "b:9092")

        assert "cleanup.policy is 'delete'" in cause
        assert remedy.startswith("kafka-configs.sh --bootstrap-server b:9092 --alter --entity-type topics")


def test_offsets_may_not_age_even_beside_compaction() -> None:
    topic = Topic("offs", 50, {"cleanup.policy": "compact,delete"})

    assert misfits(OFFSETS, topic, "b")
    assert not misfits(LAYERS, Topic("oci.x", 1, {"cleanup.policy": "compact,delete"}), "b")


def test_another_number_of_offsets_partitions_is_refused_with_both_numbers() -> None:
    ((cause, remedy),) = misfits(OFFSETS, Topic("offs", 12, OFFSETS.config), "b")

    assert "12 partitions" in cause
    assert "50" in cause
    assert "offsets.partitions to 12" in remedy


def test_a_topic_that_takes_less_than_the_largest_file_is_named_with_both_numbers() -> None:
    sentence = too_small(LAYERS, Topic("oci.x", 1, {"max.message.bytes": "1048588"}), "b:9092")

    assert sentence is not None
    assert "max.message.bytes=1048588" in sentence
    assert f"max.message.bytes={LAYERS.max_message_bytes}" in sentence


def test_hidden_settings_are_no_misfit() -> None:
    assert misfits(LAYERS, Topic("oci.x", 1, None), "b") == []
    assert too_small(LAYERS, Topic("oci.x", 1, None), "b") is None


class Admin:
    """Takes every new topic, and shows none of them."""

    def list_topics(self, topic: None, seconds: float) -> Any:
        return SimpleNamespace(topics={}, brokers={1: None})

    def create_topics(self, topics: list[Any], **_: float) -> dict[str, "Future[None]"]:
        created: dict[str, Future[None]] = {topic.topic: Future() for topic in topics}
        for future in created.values():
            future.set_result(None)
        return created


class Clients:
    """What Topics asks of `Clients`."""

    bootstrap = "broker:9092"
    times_down = 0

    def admin(self) -> Admin:
        return Admin()

    def count_brokers(self, count: int) -> None:
        assert count == 1

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)


async def test_a_created_topic_that_no_broker_shows_is_an_error_that_names_it() -> None:
    clients: Any = Clients()

    with pytest.raises(OutputError) as caught:
        await Topics(clients, shown_within_seconds=0.1).ensure([LAYERS], "create")

    assert caught.value.reason == "KafkaUnreachable"
    assert caught.value.transient
    assert "oci.x" in str(caught.value)
