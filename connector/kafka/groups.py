"""Consumer groups as others see them: who is in one, and how far it has read. Asked through the admin client."""

import asyncio

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from msgspec import Struct

from connector.kafka.admin import Admin
from connector.kafka.clients import kafka_error_of
from connector.kafka.topics import Topics

_ADMIN_SECONDS = 15.0
_COORDINATOR_ON_ITS_WAY = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


class GroupLag(Struct, frozen=True):
    """How many committed records of its topics a group has not committed as read, and how many members live."""

    members: int
    topics: tuple[str, ...]
    records: int


async def group_members(admin: Admin, group: str, *, but_instance: str | None = None) -> list[str]:
    """`client id @ host` of each live member; empty where there is no such group. Raises OutputError.

    `but_instance` leaves out the static member of that name: ourselves, from an earlier run.
    """
    deadline = asyncio.get_running_loop().time() + _ADMIN_SECONDS
    while True:
        futures = admin.client.describe_consumer_groups([group], request_timeout=_ADMIN_SECONDS)
        try:
            description = await asyncio.wrap_future(futures[group])
        except KafkaException as raised:
            error = kafka_error_of(raised)
            if error.code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            # The first group of a cluster waits for its coordinator, a moved one for its new one.
            if error.code() in _COORDINATOR_ON_ITS_WAY and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.1)
                continue
            raise admin.error(f"asking for the members of group {group}", error) from raised
        return [
            f"{member.client_id} @ {member.host.lstrip('/')}"
            for member in description.members
            if but_instance is None or member.group_instance_id != but_instance
        ]


async def group_offsets(admin: Admin, group: str) -> dict[tuple[str, int], int]:
    """The committed offset of each partition; empty where the group has none. Raises OutputError."""
    futures = admin.client.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=_ADMIN_SECONDS
    )
    try:
        found = await asyncio.wrap_future(futures[group])
    except KafkaException as raised:
        error = kafka_error_of(raised)
        if error.code() == KafkaError.GROUP_ID_NOT_FOUND:
            return {}
        raise admin.error(f"asking for the offsets of group {group}", error) from raised
    return {(at.topic, at.partition): at.offset for at in found.topic_partitions or () if at.offset >= 0}


async def group_lag(topics: Topics, group: str) -> GroupLag | None:
    """The group's lag; None where there never was such a group. Raises OutputError."""
    offsets = await group_offsets(topics.admin, group)
    members = await group_members(topics.admin, group)
    if not offsets and not members:
        return None
    behind = 0
    for topic in sorted({topic for topic, _ in offsets}):
        partitions = [partition for name, partition in offsets if name == topic]
        ends = await topics.end_offsets(topic, partitions, committed=True)
        behind += sum(max(0, ends[partition] - offsets[topic, partition]) for partition in partitions)
    return GroupLag(len(members), tuple(sorted({topic for topic, _ in offsets})), behind)
