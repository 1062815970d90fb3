"""What the sink half reads from: a member of a consumer group, as a Protocol. `kafka/` has the real one.

Rules for a feed. (1) `read_committed`. (2) A partition that is assigned is read from its **beginning**, whatever
offset the group committed: the topic is compacted and small, and so the newest whole snapshot is known at every start,
without the registry. The committed offset is for lag and for people. (3) `poll` never holds the membership up: it is
called at least once a second, also while a store is written to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from connector.kafka.record import Record

Place: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition is ours, and read from its beginning.

    `end` is its last stable offset at that moment: what lies before it is the past. `committed` is the group's offset,
    -1 without one.
    """

    topic: str
    partition: int
    end: int
    committed: int = -1


@dataclass(frozen=True, slots=True)
class Revoked:
    """A partition is another's, or was lost."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought: first the changes of assignment in their order, then records in the order of their log.

    `positions` holds the next offset of every assigned partition (control records and compacted gaps are behind it),
    `ends` their last known ends.
    """

    changes: tuple[Assigned | Revoked, ...] = ()
    records: tuple[Record, ...] = ()
    positions: Mapping[Place, int] = field(default_factory=dict)
    ends: Mapping[Place, int] = field(default_factory=dict)


class Feed(Protocol):
    """A member of the flow's consumer group, on the flow's topics."""

    async def poll(self, limit: int, timeout_seconds: float) -> Polled:
        """At most so many records, as soon as there are any. Raises OutputError."""
        ...

    async def commit(self, topic: str, partition: int, next_offset: int) -> None:
        """Commit the group's offset of one partition. Raises OutputError, NotOwner where it is not ours any more."""
        ...
