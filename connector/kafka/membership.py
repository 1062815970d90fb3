"""What a partition is to this worker, and the fence that binds a transaction to a membership. Pure.

Rules. `fence` refuses, before the wire, what a broker was measured to accept unfenced: no offset at all, a generation
below 0 with an empty member id, a partition that is not ours. The automaton of a partition is the table TRANSITIONS;
`docs/architecture.md` shows it.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from msgspec import Struct

from connector.errors import OutputError

_MAGIC = b"CGMDv2:"


class State(StrEnum):
    """Where a partition stands in this worker."""

    UNASSIGNED = "unassigned"
    RESTORING = "restoring"
    RUNNING = "running"
    DRAINING = "draining"


class Event(StrEnum):
    """What happens to a partition."""

    ASSIGNED = "assigned"
    RESTORED = "restored"
    FENCED = "fenced"
    REVOKED = "revoked"
    LOST = "lost"
    DRAINED = "drained"


# State × event → state. What is not here is a bug in the caller: `step` raises and changes nothing.
# FENCED brings RUNNING back to RESTORING: a time-out of the coordinator looks like a fence, so look again, never leave.
TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.UNASSIGNED, Event.ASSIGNED): State.RESTORING,
    (State.RESTORING, Event.RESTORED): State.RUNNING,
    (State.RESTORING, Event.FENCED): State.RESTORING,
    (State.RESTORING, Event.REVOKED): State.DRAINING,
    (State.RESTORING, Event.LOST): State.DRAINING,
    (State.RUNNING, Event.FENCED): State.RESTORING,
    (State.RUNNING, Event.REVOKED): State.DRAINING,
    (State.RUNNING, Event.LOST): State.DRAINING,
    (State.DRAINING, Event.DRAINED): State.UNASSIGNED,
}


def step(state: State, event: Event) -> State:
    """The next state. Raises ValueError for an event that cannot happen in `state`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a partition that is {state} cannot be {event}") from None


class Membership(Struct, frozen=True):
    """What the group's coordinator knows of us, as of the last poll."""

    generation: int
    member_id: str
    partitions: frozenset[int]
    metadata: bytes


class Fence(Struct, frozen=True):
    """What `send_offsets_to_transaction` is given: (topic, partition, position), never empty, and the proof."""

    offsets: tuple[tuple[str, int, int], ...]
    metadata: bytes


def read_membership(metadata: bytes, partitions: Collection[int]) -> Membership:
    """Generation and member id out of librdkafka's group metadata (rd_kafka_consumer_group_metadata_write, v2).

    Raises OutputError NotOwner when the bytes have another layout: an unreadable proof is no proof.
    """
    if not metadata.startswith(_MAGIC) or metadata.count(b"\0", 11) < 2:
        raise not_owner("librdkafka's group metadata has an unknown layout; use the locked confluent-kafka version")
    generation = int.from_bytes(metadata[7:11], "little", signed=True)
    _, member = metadata[11:].split(b"\0")[:2]
    return Membership(generation, member.decode("utf-8", "replace"), frozenset(partitions), metadata)


def fence(membership: Membership, topic: str, positions: Mapping[int, int]) -> Fence:
    """The offsets and metadata that bind a transaction to this membership.

    `positions` maps each partition the transaction speaks for to its restored position. Raises OutputError NotOwner
    for each of the three ways in which a broker would take the commit of a worker that owns nothing.
    """
    if not positions:
        raise not_owner("a transaction without a group offset is not fenced at all")
    if membership.generation < 0 or not membership.member_id:
        raise not_owner(
            f"generation {membership.generation} and member {membership.member_id!r} are those of a worker outside "
            "the group, which the broker does not check"
        )
    foreign = set(positions) - membership.partitions
    if foreign:
        raise not_owner(f"partition {min(foreign)} is not assigned to this worker, which the broker does not check")
    offsets = tuple((topic, partition, position) for partition, position in sorted(positions.items()))
    return Fence(offsets, membership.metadata)


def not_owner(cause: str) -> OutputError:
    """The error of a worker whose membership does not let it write; somebody else is, or soon will be, the owner."""
    return OutputError(
        reason="NotOwner",
        doing="binding a transaction to the consumer group",
        cause=cause,
        remedy="nothing to do: the partition's owner pulls at its next tick (nobody)",
    )
