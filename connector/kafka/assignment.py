"""What a member of a consumer group meets while it reads: partitions that come and go, and records. Pure."""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct, field

from connector.kafka.record import Record

Place: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""


class Assigned(Struct, frozen=True):
    """A partition is ours, and read from its beginning.

    `end` is its last stable offset at that moment: what lies before it is the past. `committed` is the group's offset,
    -1 without one.
    """

    topic: str
    partition: int
    end: int
    committed: int = -1


class Revoked(Struct, frozen=True):
    """A partition is another's, or was lost."""

    topic: str
    partition: int


class Polled(Struct, frozen=True):
    """What one poll brought: first the changes of assignment in their order, then records in the order of their log.

    `positions` holds the next offset of every assigned partition (control records and compacted gaps are behind it),
    `ends` their last known ends.
    """

    changes: tuple[Assigned | Revoked, ...] = ()
    records: tuple[Record, ...] = ()
    positions: Mapping[Place, int] = field(default_factory=dict)
    ends: Mapping[Place, int] = field(default_factory=dict)
