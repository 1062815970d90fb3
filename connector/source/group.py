"""The consumer group of the source half, and how a member of it writes: what a worker and an errand have in common."""

from collections.abc import Mapping

from msgspec import Struct, field

from connector.kafka.at_least_once import AcknowledgedWrites
from connector.kafka.attempt import Prover
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients, Property
from connector.kafka.transaction import Ended, Transactions, Writes, uncounted


class Group(Struct, frozen=True):
    """The consumer group this worker joins. `properties` are those of its consumer that the user may choose.

    `is_fenced` is False for `delivery: at_least_once`.
    """

    name: str
    offsets_topic: str
    is_fenced: bool = True
    instance_id: str | None = None
    properties: Mapping[str, Property] = field(default_factory=dict)


def writes_of(
    group: Group, clients: Clients, prover: Prover, changelog: Changelog, partition: int, ended: Ended = uncounted
) -> Writes:
    """What the owner of a partition of the offsets topic writes with: transactions, where the cluster allows them."""
    if not group.is_fenced:
        return AcknowledgedWrites(clients, prover, partition=partition)
    return Transactions(
        clients, prover, changelog, group=group.name, offsets_topic=group.offsets_topic, partition=partition,
        ended=ended,
    )  # fmt: skip
