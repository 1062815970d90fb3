"""What both halves join their groups with."""

import pytest

from connector.kafka.clients import Property
from connector.kafka.group_properties import group_properties, is_incremental


def test_a_member_is_classic_and_eager_unless_the_user_chose_otherwise() -> None:
    properties = group_properties({"session.timeout.ms": 6_000}, None)

    assert properties == {
        "session.timeout.ms": 6_000, "heartbeat.interval.ms": 3_000, "partition.assignment.strategy": "range",
    }  # fmt: skip
    assert not is_incremental(properties)


def test_a_member_of_the_new_protocol_sets_nothing_that_is_the_brokers() -> None:
    chosen: dict[str, Property] = {"group.protocol": "consumer", "session.timeout.ms": 6_000}

    assert group_properties(chosen, "pod-0") == {"group.protocol": "consumer", "group.instance.id": "pod-0"}


@pytest.mark.parametrize(
    "chosen", [{"group.protocol": "consumer"}, {"partition.assignment.strategy": "cooperative-sticky"}]
)
def test_some_memberships_change_one_partition_at_a_time(chosen: dict[str, Property]) -> None:
    assert is_incremental(group_properties(chosen, None))
