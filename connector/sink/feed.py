"""What the sink half reads from: a member of a consumer group, as a Protocol; `kafka/group_feed.py` has the real one.

Rules for a feed. (1) `read_committed`. (2) A partition that is assigned is read from its **beginning**, whatever
offset the group committed: the topic is compacted and small, and so the newest whole snapshot is known at every start,
without the registry. The committed offset is for lag and for people. (3) `poll` is called at least every few seconds,
also while a store is written to, so that the group keeps the member.
"""

from typing import Protocol

from connector.kafka.assignment import Polled


class Feed(Protocol):
    """A member of the flow's consumer group, on the flow's topics."""

    async def poll(self, limit: int, timeout_seconds: float) -> Polled:
        """At most so many records, as soon as there are any. Raises OutputError."""
        ...

    async def commit(self, topic: str, partition: int, next_offset: int) -> None:
        """Commit the group's offset of one partition. Raises OutputError, NotOwner where it is not ours any more."""
        ...
