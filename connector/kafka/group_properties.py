"""How a member of a consumer group joins and stays, in librdkafka's properties. Pure."""

from collections.abc import Mapping

from connector.kafka.clients import Property

_JOINING: Mapping[str, Property] = {
    # A killed worker holds its partitions this long; three heartbeats may be lost before.
    "session.timeout.ms": 15_000,
    "heartbeat.interval.ms": 3_000,
    "partition.assignment.strategy": "range",
}


def group_properties(chosen: Mapping[str, Property], instance_id: str | None) -> dict[str, Property]:
    """The properties of a member, of which the user chose some. `instance_id` makes it a static one.

    Where `group.protocol` is `consumer` the broker sets what is ours to set otherwise, and the client refuses it.
    """
    by_broker = chosen.get("group.protocol") == "consumer"
    properties = {**_JOINING, **chosen, **({"group.instance.id": instance_id} if instance_id else {})}
    return {name: value for name, value in properties.items() if not (by_broker and name in _JOINING)}


def is_incremental(properties: Mapping[str, Property]) -> bool:
    """Whether partitions come and go one by one, rather than all at once at each rebalance."""
    return (
        properties.get("group.protocol") == "consumer"
        or properties.get("partition.assignment.strategy") == "cooperative-sticky"
    )
