"""One partition of the offsets topic while it is ours: restore it, tick its sources, restore again after a fence.

Rules. (1) Nothing ticks before the offsets are restored. (2) A source's failure is its own: it is shown, and tried
again at the next tick. (3) A fence or a doubtful membership makes the whole partition restore again; it never ends the
worker. (4) Cancelling the task of `run` waits for a commit that is under way, and for nothing else. (5) A topic that is
gone stops the sources that write to it until it is there again, and no others.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from time import monotonic

from connector import faults
from connector.errors import OciSyncError, OutputError
from connector.kafka.membership import Event, State, step
from connector.kafka.record import Record
from connector.kafka.transaction import FENCES, Committed, Writes
from connector.records.request import Request, RequestKind, split_request_key
from connector.records.source_offset import SourceOffset, offset_key
from connector.source.answer import answer, asked_offset, offset_effect
from connector.source.desk import Desk
from connector.source.outcome import Pull, Unchanged, delivered
from connector.source.output import SourceOutput
from connector.source.restore import readable_request
from connector.source.surroundings import Limits, ScheduledSource, Surroundings, topic_gone
from connector.status import PartitionState

_LOG = logging.getLogger(__name__)

# After one of these the partition's truth is in the topic, not in our memory.
_LOOK_AGAIN = FENCES | {"TopicMissing"}
_LONGEST_BACKOFF_SECONDS = 30.0
# A rebalance under way revokes the partition within this time; restoring at once would only be fenced again.
_LOOK_AGAIN_SECONDS = 1.0


class OwnedPartition:
    """The life of one partition between its assignment and its revocation."""

    def __init__(
        self, number: int, sources: tuple[ScheduledSource, ...], transactions: Writes, around: Surroundings
    ) -> None:
        self.number = number
        self.sources = sources
        self.task: asyncio.Task[None] | None = None
        self.state = State.UNASSIGNED
        self._transactions = transactions
        self._around = around
        self._limits: Limits = {}
        self._position = 0
        self._offsets: dict[bytes, SourceOffset] = {}
        self._known_paths: dict[bytes, Mapping[str, str]] = {}
        # Not those of the other partitions: a topic that was deleted stops the sources that write to it, no others.
        self._topics = frozenset([around.offsets_topic, *(one.source.topic for one in sources)])
        self._gone: frozenset[str] = frozenset()
        self._at_work = 0
        self._desks = {one.source.offset_key: Desk() for one in sources}

    def __repr__(self) -> str:
        return f"<OwnedPartition {self.number} {self.state} {len(self.sources)} sources>"

    def happened(self, event: Event) -> None:
        """Step the automaton and show it."""
        self.state = step(self.state, event)
        status = self._around.status
        if self.state is State.UNASSIGNED:
            status.partition_lost(self.number, now())
        else:
            status.partition_state(self.number, now(), PartitionState(self.state.value))

    async def run(self) -> None:
        """Restore and tick until cancelled or, with `once`, until each source has ticked one time."""
        attempt = 0
        try:
            while True:
                try:
                    async with self._around.restoring:
                        await self._restore()
                except OciSyncError as error:
                    self._restore_failed(error)
                    if self._around.once:
                        return
                    attempt += 1
                    await asyncio.sleep(_backoff_seconds(attempt))
                    continue
                attempt = 0
                self.happened(Event.RESTORED)
                faults.passing("restored")
                # A task group that ends by a fence swallows the cancelling of a revocation that comes meanwhile.
                if not await self._tick_until_doubt() or self.state is not State.RUNNING:
                    return
                self.happened(Event.FENCED)
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        finally:
            await asyncio.shield(self._transactions.discard())

    def desk(self, scheduled: ScheduledSource) -> Desk:
        """Where requests to a source of this partition are laid down."""
        return self._desks[scheduled.source.offset_key]

    def noticed(self, record: Record) -> None:
        """A request, or the tombstone of one, came into the partition."""
        name = split_request_key(record.key)
        if name is None:
            return
        kind, flow, artifact = name
        desk = self._desks.get(offset_key(flow, artifact))
        if record.value is None:
            if kind is RequestKind.PAUSE and desk is not None:
                desk.resume()
                desk.heard_of_pause = True
        elif (request := readable_request(record)) is not None and (desk := self._desks.get(request.offset_key)):
            desk.post(request)
            desk.heard_of_pause |= kind is RequestKind.PAUSE

    async def prepare(self, topic: str | None = None) -> None:
        """Fresh limits and a producer that is ready, while the blobs download. `topic`: that must be there."""
        self._limits = await self._around.limits(self._topics)
        if topic is not None and topic not in self._limits:
            raise topic_gone(topic)
        await self._transactions.initialise(self._limits)

    async def commit(self, records: Iterable[Record], offset: Record) -> Committed:
        """All of it or nothing, under this partition's fence. Raises OutputError (see Transactions.commit)."""
        return await self._transactions.commit(records, offset, self._position, self._limits)

    async def _restore(self) -> None:
        """Abort what a crashed owner left open, then read what was committed."""
        if not self.sources:
            return
        started = monotonic()
        for desk in self._desks.values():
            desk.paused = desk.heard_of_pause = False  # the topic tells, and what is heard from now on
        await self.prepare()
        self._gone = self._topics - self._limits.keys()
        sources = [one.source for one in self.sources if one.source.topic not in self._gone]
        written = {(source.topic, number) for source in sources for number in source.record_partitions}
        written.add((self._around.offsets_topic, self.number))
        await self._transactions.end_hanging(sorted(written), self._limits)
        restored = await self._around.restorer.restore(self.number, sources)
        self._transactions.restored()
        self._position = restored.position
        self._offsets = dict(restored.offsets)
        self._known_paths = dict(restored.known_paths)
        for scheduled in (one for one in self.sources if one.source.topic not in self._gone):
            offset = restored.offsets.get(scheduled.source.offset_key)
            self._around.status.source_restored(scheduled.id, now(), delivered(offset) if offset else None)
        for request in restored.requests:
            asked = self._desks.get(request.offset_key)
            if asked is not None and not (request.kind is RequestKind.PAUSE and asked.heard_of_pause):
                asked.post(request)
        took = monotonic() - started
        self._around.telemetry.restored(took)
        paths = sum(len(known) for known in self._known_paths.values())
        _LOG.debug("restored partition %d: %d sources, %d paths in %.3f s", self.number, len(self.sources), paths, took)

    def _restore_failed(self, error: OciSyncError) -> None:
        _LOG.error("%s", error, extra={"partition": self.number, "reason": error.reason})
        self._around.status.partition_failed(self.number, now(), error)
        for scheduled in self.sources:
            self._around.failures[scheduled.id] = error

    async def _tick_until_doubt(self) -> bool:
        """Tick all sources; True when the partition must be restored before any of them goes on."""
        in_doubt = False
        try:
            async with asyncio.TaskGroup() as group:
                for scheduled in self.sources:
                    group.create_task(self._run_source(scheduled), name="/".join(scheduled.id))
        except* _LookAgain:
            in_doubt = not self._around.once
        return in_doubt

    async def _run_source(self, scheduled: ScheduledSource) -> None:
        desk = self.desk(scheduled)
        if scheduled.source.topic in self._gone:
            await self._await_topic(scheduled)
            return
        while True:
            desk.news.clear()
            started = monotonic()
            async with self._working():
                error = await self._work(scheduled, desk)
            if error is not None and self._is_doubtful(error):
                raise _LookAgain
            if self._around.once:
                return
            await self._wait(scheduled, desk, error, monotonic() - started)

    async def _await_topic(self, scheduled: ScheduledSource) -> None:
        """Say that the source's topic is gone, and look until it is there again."""
        failed_before = self._around.failures.get(scheduled.id)
        if failed_before is None or failed_before.reason != "TopicMissing":
            self._failed(scheduled, topic_gone(scheduled.source.topic), timedelta())
        for attempt in count(1):
            if self._around.once:
                return
            wait = timedelta(seconds=_backoff_seconds(attempt))
            self._around.status.source_scheduled(scheduled.id, now(), now() + wait)
            await asyncio.sleep(wait.total_seconds())
            with suppress(OutputError):
                if scheduled.source.topic in await self._around.limits([scheduled.source.topic]):
                    raise _LookAgain

    async def _work(self, scheduled: ScheduledSource, desk: Desk) -> OciSyncError | None:
        """What is asked of the source, and its tick unless it is paused."""
        error = await self._carry_out(scheduled, desk)
        triggers = desk.waiting(RequestKind.TRIGGER)
        if error is None and (desk.wants_tick() or not desk.paused):
            error = await self._tick(scheduled, force=any(request.force for request in triggers))
            if error is None or not self._is_doubtful(error):
                error = await self._settle(triggers, desk) or error
        return error

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """While a source may write. The last one at work throws a producer away that is ready: it is not kept idle."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                await asyncio.shield(self._transactions.discard())

    def _is_doubtful(self, error: OciSyncError) -> bool:
        """Whether the topic knows better than our memory: after a fence, or a commit whose outcome nobody could ask."""
        return error.reason in _LOOK_AGAIN or self._transactions.in_doubt

    async def _wait(
        self, scheduled: ScheduledSource, desk: Desk, error: OciSyncError | None, took_seconds: float
    ) -> None:
        """Until the next beat, or until something is asked; while paused, only the latter."""
        status = self._around.status
        if desk.paused != desk.shown_paused:
            status.source_paused(scheduled.id, now(), desk.paused)
            desk.shown_paused = desk.paused
        if desk.paused:
            status.source_scheduled(scheduled.id, now(), None)
            await desk.news.wait()
            return
        wait = scheduled.schedule.wait_seconds(random.random(), took_seconds)  # noqa: S311  no secret
        if error is not None and error.retry_after is not None:
            wait = max(wait, error.retry_after)
        status.source_scheduled(scheduled.id, now(), now() + timedelta(seconds=wait))
        try:
            async with asyncio.timeout(wait):
                await desk.news.wait()
        except TimeoutError:
            return

    async def _carry_out(self, scheduled: ScheduledSource, desk: Desk) -> OciSyncError | None:
        """Reset or set the offset as asked, in one transaction with the answer to the request."""
        source = scheduled.source
        for request in desk.waiting(RequestKind.RESET, RequestKind.SET):
            offset = asked_offset(
                request, self._offsets.get(source.offset_key), self._known_paths[source.offset_key], source.settings
            )
            error = await self._answer(request, offset)
            if error is not None:
                return error
            desk.done(request)
            if offset is None:
                self._offsets.pop(source.offset_key, None)
            else:
                self._offsets[source.offset_key] = offset
            self._around.status.source_restored(scheduled.id, now(), delivered(offset) if offset else None)
        return None

    async def _settle(self, requests: Sequence[Request], desk: Desk) -> OciSyncError | None:
        """Say that triggers were carried out."""
        for request in requests:
            if desk.is_replaced(request):
                desk.done(request)  # its answer would be taken for one to the newer request
                continue
            error = await self._answer(request, None, touches_offset=False)
            if error is not None:
                return error
            desk.done(request)
        return None

    async def _answer(
        self, request: Request, offset: SourceOffset | None, *, touches_offset: bool = True
    ) -> OciSyncError | None:
        effect = [offset_effect(self._around.offsets_topic, self.number, request, offset)] if touches_offset else []
        try:
            await answer(self._transactions, self._around.offsets_topic, self.number, request, effect, self._position,
                         self._limits)  # fmt: skip
        except OciSyncError as error:
            _LOG.error("%s", error, extra={"flow": request.flow, "reason": error.reason})
            return error
        return None

    async def _tick(self, scheduled: ScheduledSource, *, force: bool) -> OciSyncError | None:
        key, status = scheduled.source.offset_key, self._around.status
        status.source_started(scheduled.id, now())
        started = monotonic()
        try:
            outcome = await scheduled.ticker.tick(
                self._offsets.get(key), self._known_paths[key], SourceOutput(self, scheduled.source.topic), force=force
            )
        except OciSyncError as error:
            self._failed(scheduled, error, timedelta(seconds=monotonic() - started))
            return error
        except asyncio.CancelledError:
            status.source_cancelled(scheduled.id, now())
            raise
        self._succeeded(scheduled, outcome, timedelta(seconds=monotonic() - started))
        return None

    def _succeeded(self, scheduled: ScheduledSource, outcome: Unchanged | Pull, took: timedelta) -> None:
        source, status, telemetry = scheduled.source, self._around.status, self._around.telemetry
        self._around.failures.pop(scheduled.id, None)
        match outcome:
            case Unchanged():
                status.source_unchanged(scheduled.id, now(), outcome.digest, took)
                telemetry.observe_tick(source.flow, {"resolve": took.total_seconds()})
            case Pull():
                self._offsets[source.offset_key] = outcome.offset
                self._known_paths[source.offset_key] = outcome.offset.paths
                status.source_committed(scheduled.id, now(), delivered(outcome.offset), took)
                telemetry.observe_tick(source.flow, outcome.phases)
                changes = {change.value: count for change, count in outcome.changes.items()}
                telemetry.records_produced(source.flow, source.name, changes, outcome.committed.size_bytes)

    def _failed(self, scheduled: ScheduledSource, error: OciSyncError, took: timedelta) -> None:
        source = scheduled.source
        self._around.failures[scheduled.id] = error
        self._around.status.source_failed(scheduled.id, now(), error, None, took)
        facts = {"flow": source.flow, "source": source.name, "artifact": source.artifact, "reason": error.reason}
        _LOG.error("%s", error, extra=facts)


class _LookAgain(Exception):
    """The partition must be restored before any of its sources goes on."""


def now() -> datetime:
    """The time as status wants it."""
    return datetime.now(UTC)


def _backoff_seconds(attempt: int) -> float:
    return min(_LONGEST_BACKOFF_SECONDS, 2.0 ** min(attempt, 5))
