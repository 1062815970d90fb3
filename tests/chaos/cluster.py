"""Who leads and who coordinates in a cluster: the broker to hurt."""

from confluent_kafka.admin import AdminClient

from connector.kafka.record import partition_for
from connector.records.source_offset import offset_key
from tests.chaos.scene import Scene

_ASK_SECONDS = 20


def leader(bootstrap: str, topic: str, partition: int = 0) -> int:
    """The broker that leads a partition."""
    metadata = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=_ASK_SECONDS)
    return int(metadata.topics[topic].partitions[partition].leader)


def coordinator(bootstrap: str, topic: str, name: str) -> int:
    """The broker that leads the partition of an internal topic where this group or transactional id lives."""
    metadata = AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=_ASK_SECONDS)
    partitions = metadata.topics[topic].partitions
    return int(partitions[_java_hash(name) % len(partitions)].leader)


def group_coordinator(bootstrap: str, scene: Scene) -> int:
    """The broker that keeps the scene's consumer group."""
    return coordinator(bootstrap, "__consumer_offsets", _group(scene))


def transaction_coordinator(bootstrap: str, scene: Scene) -> int:
    """The broker that keeps the scene's transactions."""
    product = scene.product
    partition = partition_for(offset_key(product.name, product.artifact), 4)
    return coordinator(bootstrap, "__transaction_state", f"{_group(scene)}-{partition}")


def _group(scene: Scene) -> str:
    return f"g-{scene.product.name}"


def _java_hash(text: str) -> int:
    """`Utils.abs(text.hashCode())` of Kafka's broker."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
