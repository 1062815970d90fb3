"""One way from a buffer to a store: `buffer, diff, store` or `buffer, [list | script]…, store`."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from connector.records.file_record import Snapshot
from connector.sink.event import Event, batch_event
from connector.sink.operation import Operation
from connector.sink.store import Applied, Entry, Store, apply
from connector.sink.tasks.diff import Desired, Differ


class Transform(Protocol):
    """A task in the middle of a chain: events in, events out."""

    async def handle(self, events: Sequence[Event]) -> list[Event]:
        """What goes on from here. Raises SinkError."""
        ...


class Chain(Protocol):
    """What the pipeline knows of a chain.

    `name` is that of its last task, under which the status shows it. The intervals say how often the store is looked
    at although nothing is new; None: never.
    """

    name: str
    check_interval: timedelta | None
    reconcile_interval: timedelta | None

    async def apply(self, snapshots: Sequence[Snapshot], *, all_known: bool) -> Applied:
        """Bring the store to what the newest snapshots of all artifacts ask for. Raises SinkError."""
        ...

    async def is_settled(self) -> bool:
        """Whether the store still has the names that the last `apply` left, by one list. Raises SinkError."""
        ...

    async def probe(self) -> str:
        """What `validate` says of the store; creates and writes nothing. Raises SinkError, CredentialsError."""
        ...

    async def close(self) -> None:
        """End the store's connections."""
        ...


class DiffChain:
    """`diff`, then `operation: apply`."""

    def __init__(self, name: str, differ: Differ, store: Store) -> None:
        self.name = name
        self.check_interval: timedelta | None = differ.check_interval
        self.reconcile_interval: timedelta | None = differ.reconcile_interval
        self._differ = differ
        self._store = store
        self._last: tuple[tuple[str, ...], Desired, bool] | None = None

    async def apply(self, snapshots: Sequence[Snapshot], *, all_known: bool) -> Applied:
        """List what is owned, compare, write. The keys of a pull are worked out once, however often it is applied."""
        pulls = tuple(snapshot.pull.pull_id for snapshot in snapshots)
        if self._last is not None and self._last[0] == pulls:
            desired = self._last[1]
        else:
            # Templates over thousands of files take seconds; the event loop must go on polling meanwhile.
            desired = await asyncio.to_thread(self._differ.desired, snapshots)
        self._last = (pulls, desired, all_known)
        held: dict[str, Entry] = {}
        for prefix in self._differ.prefixes:
            held.update(await self._store.list(prefix))
        return await apply(self._differ.compare(desired, held, all_known=all_known), self._store)

    async def is_settled(self) -> bool:
        """One list of names a prefix, compared with the last desired state."""
        if self._last is None:
            return False
        _, desired, all_known = self._last
        keys: set[str] = set()
        for prefix in self._differ.prefixes:
            keys |= await self._store.keys(prefix)
        return self._differ.is_settled(desired, keys, all_known=all_known)

    async def probe(self) -> str:
        """Ask the store."""
        return await self._store.probe()

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


class EventChain:
    """Scripts and lists, then `put`, `delete` or `apply`."""

    def __init__(self, name: str, flow: str, stages: Sequence[Transform | Operation], last: Operation) -> None:
        self.name = name
        self.check_interval: timedelta | None = None
        self.reconcile_interval: timedelta | None = None
        self._flow = flow
        self._stages = stages
        self._last = last

    async def apply(self, snapshots: Sequence[Snapshot], *, all_known: bool) -> Applied:
        """One event a snapshot, through the stages, into the store."""
        done = Applied()
        for snapshot in snapshots:
            events = [batch_event(snapshot, self._flow)]
            for stage in self._stages:
                events = await (stage.extend(events) if isinstance(stage, Operation) else stage.handle(events))
            done += await self._last.handle(events)
        return done

    async def is_settled(self) -> bool:
        """A script may read anything, so only running it again could tell; it counts as settled."""
        return True

    async def probe(self) -> str:
        """Ask the store at the end."""
        return await self._last.store.probe()

    async def close(self) -> None:
        """Close the stores."""
        for stage in (*self._stages, self._last):
            if isinstance(stage, Operation):
                await stage.store.close()
