"""One chain with the buffer above it: what it has collected, what it still owes its store, and when it looks again.

Rules. (1) Only the newest snapshot of each artifact counts; one that is superseded before it was applied is left out.
(2) Nothing is applied before the partitions were read to the end of their assignment: an old release must not be put
over a newer one, not even for a moment. (3) A failure keeps the snapshot owed; it is tried again with growing pauses,
and at once when a newer one arrives.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from msgspec import Struct

from connector.errors import OciSyncError, SinkError
from connector.kafka.assignment import Place
from connector.records.file_record import FileRecord, PullFacts, Snapshot
from connector.sink.chain import Chain
from connector.sink.store import Applied
from connector.sink.tasks.buffer import Collecting, Snapshots

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Held(Struct, frozen=True):
    """The newest whole snapshot of an artifact; `first` is the lowest offset of its pull in each place."""

    snapshot: Snapshot
    first: Mapping[Place, int]


class Worked(Struct, frozen=True):
    """What one look at the store came to. `news` says whether a snapshot was owed; else it was a look for drift."""

    news: bool
    snapshots: tuple[Snapshot, ...]
    applied: Applied


class HeldUp(Struct, frozen=True):
    """Why the newest pull of an artifact does not become whole, and where its records lie."""

    place: Place
    error: OciSyncError


class Line:
    """State of one chain. `artifacts` are the references that feed it."""

    def __init__(self, chain: Chain, snapshots: Snapshots, artifacts: frozenset[str]) -> None:
        self.chain = chain
        self.artifacts = artifacts
        self.timeout = snapshots.timeout
        self.wake = asyncio.Event()
        self.working: asyncio.Task[bool] | None = None
        self.failures = 0
        self.held_up: dict[str, HeldUp] = {}  # by artifact
        self._snapshots = snapshots
        self._newest: dict[str, Held] = {}
        self._owed: dict[str, Held] = {}
        self._refused: dict[str, dict[Place, int]] = {}  # artifact → where its newest pull begins, which is of no use
        self._next_try = 0.0
        self._next_check: float | None = None
        self._next_reconcile: float | None = None

    def __repr__(self) -> str:
        return f"<Line {self.chain.name} {len(self._newest)}/{len(self.artifacts)} known, {len(self._owed)} owed>"

    @property
    def owes(self) -> bool:
        """Whether a whole snapshot is not in the store yet, as far as we know."""
        return bool(self._owed)

    @property
    def waits_for(self) -> frozenset[str]:
        """Artifacts without a whole snapshot; while there are any, nothing is deleted."""
        return self.artifacts - self._newest.keys()

    @property
    def collecting(self) -> tuple[Collecting, ...]:
        """The pulls under way."""
        return self._snapshots.collecting()

    def take(self, file: FileRecord, topic: str, partition: int, offset: int) -> Snapshot | None:
        """Give one record to the buffer; the snapshot it made whole.

        Raises what `Snapshots.feed` raises, and SinkError SnapshotIncomplete for one whose content is elsewhere.
        """
        artifact = file.pull.artifact
        if artifact not in self.artifacts:
            return None
        try:
            snapshot = self._snapshots.feed(file, topic, partition, offset)
            if snapshot is not None:
                _refuse_references(snapshot)
        except OciSyncError:
            self._keep(artifact, self._snapshots.first_offsets(artifact))
            raise
        if snapshot is not None:
            held = Held(snapshot, self._snapshots.first_offsets(artifact))
            self._newest[artifact] = self._owed[artifact] = held
            self._next_try = 0.0
            self.held_up.pop(artifact, None)
            self._refused.pop(artifact, None)
            self.wake.set()
        return snapshot

    def cannot_read(self, pull: PullFacts, place: Place, offset: int) -> bool:
        """Learn that a record of the pull cannot be read. Whether that matters: not where a newer pull is whole."""
        newest = self._newest.get(pull.artifact)
        if pull.artifact not in self.artifacts or (newest is not None and pull.pull_id <= newest.snapshot.pull.pull_id):
            return False
        self._keep(pull.artifact, {place: offset})
        return True

    def drop(self, topic: str, partition: int) -> None:
        """Forget what came from a partition that is another's now; an apply of it under way ends."""
        self._snapshots.drop(topic, partition)
        self.held_up = {a: held for a, held in self.held_up.items() if held.place != (topic, partition)}
        self._refused = {a: first for a, first in self._refused.items() if (topic, partition) not in first}
        for held_by in (self._newest, self._owed):
            for artifact in [a for a, held in held_by.items() if (topic, partition) in held.first]:
                del held_by[artifact]
                if self.working is not None:
                    self.working.cancel()

    def needed_from(self, place: Place) -> int | None:
        """The lowest offset of the place that a restart would have to read again; None: nothing is open."""
        open_pulls = [pull.first_offset for pull in self._snapshots.collecting() if pull.place == place]
        owed = [held.first[place] for held in self._owed.values() if place in held.first]
        refused = [first[place] for first in self._refused.values() if place in first]
        return min([*open_pulls, *owed, *refused], default=None)

    def due(self, now: float) -> Literal["apply", "check"] | None:
        """What there is to do. Times are monotonic seconds."""
        if now < self._next_try:
            return None
        if self._owed or (self._newest and self._next_reconcile is not None and now >= self._next_reconcile):
            return "apply"
        return "check" if self._newest and self._next_check is not None and now >= self._next_check else None

    def wait_seconds(self, now: float) -> float | None:
        """How long until something is due by time alone; None: never."""
        if not self._newest:
            return None
        if self._owed or self.failures:
            return max(0.0, self._next_try - now)
        times = [at for at in (self._next_check, self._next_reconcile) if at is not None]
        return max(0.0, max(self._next_try, min(times)) - now) if times else None

    async def work(self, now: float) -> Worked | None:
        """Do what is due; None where a look found everything in place. Raises OciSyncError; the debt stays then."""
        try:
            if self.due(now) == "check" and await self.chain.is_settled():
                self._next_check = _after(now, self.chain.check_interval)
                self._settled()
                return None
            owed = dict(self._owed)
            snapshots = tuple(self._newest[artifact].snapshot for artifact in sorted(self._newest))
            applied = await self.chain.apply(snapshots, all_known=not self.waits_for)
        except OciSyncError as error:
            self.failures += 1
            pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(self.failures - 1, 10))
            self._next_try = now + max(pause, error.retry_after or 0.0)
            raise
        for artifact, held in owed.items():
            if self._owed.get(artifact) is held:
                del self._owed[artifact]
        self._settled()
        self._next_check = _after(now, self.chain.check_interval)
        self._next_reconcile = _after(now, self.chain.reconcile_interval)
        return Worked(bool(owed), snapshots, applied)

    def _keep(self, artifact: str, first: Mapping[Place, int]) -> None:
        """A restart must read the pull again, until a newer one is whole: the store lacks it."""
        kept = self._refused.setdefault(artifact, {})
        for place, offset in first.items():
            kept[place] = min(offset, kept.get(place, offset))

    def _settled(self) -> None:
        self.failures = 0
        self._next_try = 0.0


def _refuse_references(snapshot: Snapshot) -> None:
    for file in snapshot.files:
        if file.reference_bytes is not None:
            raise SinkError(
                reason="SnapshotIncomplete",
                doing=f"collecting pull {snapshot.pull.pull_id} of {snapshot.pull.artifact}",
                cause=f"the {file.reference_bytes} bytes of {file.path[:200]!r} are not in the topic (`oversize: "
                "reference`), and a store would get an empty value",
                remedy="let the source send whole files (`oversize: error` or `skip`), or give the readers of "
                "references a flow of their own (operator)",
            )


def _after(now: float, interval: timedelta | None) -> float | None:
    return now + interval.total_seconds() if interval is not None else None
