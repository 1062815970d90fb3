"""A request carried out by a process that has no flows: it joins the group, owns the partition, acts, and leaves.

For a group without live workers. A bare write of an offset would be a second, unfenced writer; this one is fenced like
every owner.
"""

import asyncio
from collections.abc import Mapping

from connector.errors import OutputError
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients
from connector.kafka.ownership import Ownership
from connector.kafka.record import Record
from connector.records.request import REQUEST_PREFIX, Request, RequestKind
from connector.records.source_offset import read_offset
from connector.source.answer import answer, asked_offset, offset_effect
from connector.source.group import Group, writes_of

_JOIN_SECONDS = 60.0


async def run_errand(
    clients: Clients,
    changelog: Changelog,
    group: Group,
    request: Request,
    partition: int,
    limits: Mapping[str, int | None],
) -> None:
    """Reset or set the offset as asked. Raises OutputError.

    GroupInUse where another member owns the partition, OffsetLost for a set without an offset.
    """
    owner = _Owner()
    async with Ownership(
        clients,
        topic=group.offsets_topic,
        group=group.name,
        owner=owner,
        control_prefix=REQUEST_PREFIX,
        properties=dict(group.properties),
    ) as ownership:
        await owner.wait_for(partition, group.name)
        writes = writes_of(group, clients, ownership, changelog, partition)
        await writes.initialise(limits)
        await writes.end_hanging([(group.offsets_topic, partition)], limits)
        restored = await changelog.read(group.offsets_topic, [partition], lambda record: record.value)
        value = restored[partition].entries.get(request.offset_key)
        # A reset must work on an offset that cannot be read: it is the cure for it.
        wanted = value is not None and request.kind is RequestKind.SET
        previous = read_offset(request.offset_key, value) if wanted and value is not None else None
        offset = asked_offset(request, previous, {}, settings=None)
        effect = [offset_effect(group.offsets_topic, partition, request, offset)]
        await answer(writes, group.offsets_topic, partition, request, effect, restored[partition].position, limits)


class _Owner:
    """Owns whatever the group gives, and runs nothing."""

    def __init__(self) -> None:
        self._partitions: set[int] = set()
        self._assigned = asyncio.Event()
        self._error: OutputError | None = None

    async def wait_for(self, partition: int, group: str) -> None:
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                await self._assigned.wait()
        except TimeoutError:
            pass
        if partition not in self._partitions:
            raise self._error or OutputError(
                reason="GroupInUse",
                doing=f"joining consumer group {group} for one request",
                cause=f"partition {partition} was given to another member",
                remedy="ask again: with live workers the request goes to the one that owns the source (operator)",
            )

    async def assigned(self, partitions: frozenset[int]) -> None:
        self._partitions |= partitions
        self._assigned.set()

    async def revoked(self, partitions: frozenset[int], *, lost: bool) -> None:
        self._partitions -= partitions

    async def group_failed(self, error: OutputError, *, fatal: bool) -> None:
        self._error = error

    def polled(self) -> None:
        pass

    def noticed(self, record: Record) -> None:
        pass
