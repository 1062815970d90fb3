"""The sink half of one flow at work: poll, collect, apply, commit.

Rules. (1) The topic is the state: at every start, and for every partition that is assigned, it is read from the
beginning, the newest whole snapshot is compared with the store, and what is equal is not written. So a crash at any
point, and a store that somebody changed while we were away, are both repaired without the registry. (2) Apply, then
commit; and never beyond the first record of a pull that is not whole, or not applied. (3) Polling goes on while stores
are written to or are down, so the group keeps us; memory stays bounded, for only the newest snapshot is kept.
(4) Chains do not wait for one another. (5) A record that cannot be read is told of and left out; its pull is then
never whole, and a newer one replaces it. A record is read in the format it was written in, whatever the flow says now.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from connector import faults
from connector.errors import OciSyncError, OutputError, SinkError
from connector.kafka.assignment import Assigned, Place, Polled
from connector.kafka.record import Record
from connector.records.file_record import FileRecord, read_pull_facts
from connector.records.reading import read_file
from connector.sink.feed import Feed
from connector.sink.line import HeldUp, Line, Worked
from connector.sink.tasks.buffer import Collecting
from connector.status import SinkId, Status

_LOG = logging.getLogger(__name__)

_BATCH = 500
_POLL_SECONDS = 1.0
_PAUSE_AFTER_POLL_ERROR = 5.0


class Clock(Protocol):
    """What the pipeline needs to know of time."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def now(self) -> datetime:
        """The time of day, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


class Pipeline:
    """One flow, whose records come in `topics`."""

    def __init__(
        self,
        flow: str,
        lines: Sequence[Line],
        feed: Feed,
        topics: Collection[str],
        status: Status,
        clock: Clock,
    ) -> None:
        self._flow = flow
        self._lines = lines
        self._feed = feed
        self._status = status
        self._clock = clock
        self._assigned: dict[Place, Assigned] = {}
        self._positions: dict[Place, int] = {}
        self._committed: dict[Place, int] = {}
        self._first_seen: dict[tuple[str, str], float] = {}  # (line, pull id) → monotonic seconds
        self._warned: set[tuple[str, str]] = set()
        self._told: dict[str, str] = {}  # line → the failure that was logged last
        for line in lines:
            status.register_sink(self._id(line), clock.now(), topic=",".join(sorted(topics)))

    def __repr__(self) -> str:
        return f"<Pipeline {self._flow} {len(self._assigned)} partitions {list(self._lines)}>"

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; ends with what is done committed and the stores closed."""
        try:
            async with asyncio.TaskGroup() as group:
                works = [group.create_task(self._keep_working(line, group)) for line in self._lines]
                follows = group.create_task(self._keep_following())
                await stop.wait()
                # An apply that is cut here is made good by the next start, as after a crash.
                working = [line.working for line in self._lines if line.working is not None]
                for task in (follows, *works, *working):
                    task.cancel()
            with suppress(OutputError):
                await self._commit()
        finally:
            await self._close()

    async def run_once(self, seconds: float) -> bool:
        """Read to the end of the topic, apply what is newest, commit. Whether anything failed, told in log and status.

        Raises OutputError KafkaUnreachable when the end is not reached in that many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self.is_caught_up:
                    await self.follow()
        except TimeoutError as error:
            raise OutputError(
                reason="KafkaUnreachable",
                doing=f"reading the topic of flow {self._flow} to its end",
                cause=f"not reached within {seconds:g} s; {len(self._assigned)} partitions are assigned",
                remedy="see that no other member of the sink's group holds the partitions, and the broker (operator)",
            ) from error
        else:
            for line in self._lines:
                for pull in line.collecting:
                    self._hold_up(line, pull.artifact, pull.place, _incomplete(pull, "are in the topic"))
            done = [await self.work(line) for line in self._lines]
            await self._commit()
            return not all(done)
        finally:
            await self._close()

    @property
    def is_caught_up(self) -> bool:
        """Whether every assigned partition was read to the end it had when it was assigned."""
        return bool(self._assigned) and all(
            self._positions.get(place, 0) >= assigned.end for place, assigned in self._assigned.items()
        )

    async def follow(self) -> None:
        """One poll, what follows from it, and the commits that have become due. Raises OutputError."""
        polled = await self._feed.poll(_BATCH, _POLL_SECONDS)
        was_caught_up = self.is_caught_up
        self._reassign(polled)
        if polled.records or any(isinstance(change, Assigned) for change in polled.changes):
            self._status.kafka_answered(self._clock.now())
        for record in polled.records:
            self._take(record)
        self._positions.update({place: at for place, at in polled.positions.items() if place in self._assigned})
        if self.is_caught_up and not was_caught_up:
            for line in self._lines:
                line.wake.set()
        self._look_for_slow_pulls()
        self._tell_lag(polled.ends)
        await self._commit()

    async def work(self, line: Line) -> bool:
        """Do what is due for one chain. Whether the store has what is newest; a failure is told in log and status."""
        now = self._clock.monotonic()
        if not self.is_caught_up:
            return True
        had_failed = line.failures > 0
        try:
            worked = await line.work(now) if line.due(now) is not None else None
        except OciSyncError as error:
            self._failed(line, error)
            return False
        if worked is not None:
            faults.passing("snapshot_applied")
            self._applied(line, worked, self._clock.monotonic() - now)
            for held in line.held_up.values():  # the store has what it can have, and that is not the newest
                self._status.sink_failed(self._id(line), self._clock.now(), held.error, None)
        elif had_failed and not line.failures and not line.held_up:
            self._status.sink_follows(self._id(line), self._clock.now())
        return not line.held_up

    async def _keep_following(self) -> None:
        told: str | None = None
        while True:
            try:
                await self.follow()
            except OutputError as error:
                for line in self._lines:
                    self._status.sink_failed(self._id(line), self._clock.now(), error, None)
                # Once, for it comes again every few seconds for as long as the brokers are away.
                level = logging.DEBUG if told == error.reason else logging.ERROR
                _LOG.log(level, "%s", error, extra={"flow": self._flow, "reason": error.reason})
                told = error.reason
                if error.reason == "KafkaUnreachable":
                    self._status.kafka_failed(self._clock.now(), error)
                await self._clock.sleep(_PAUSE_AFTER_POLL_ERROR)
            else:
                if told is not None:
                    told = None
                    self._follows_again()

    def _follows_again(self) -> None:
        _LOG.info("the topic is read again", extra={"flow": self._flow})
        self._status.kafka_answered(self._clock.now())
        for line in self._lines:
            if not line.failures and not line.held_up:  # else it is that which is shown
                self._status.sink_follows(self._id(line), self._clock.now())

    async def _keep_working(self, line: Line, group: asyncio.TaskGroup) -> None:
        while True:
            line.wake.clear()
            line.working = group.create_task(self.work(line))
            # A revoked partition cancels the work, not the worker: whoever owns it now makes the same writes.
            await asyncio.wait([line.working])
            line.working = None
            # Before that nothing may be done, however much is due; reaching the end wakes us.
            wait = line.wait_seconds(self._clock.monotonic()) if self.is_caught_up else None
            try:
                async with asyncio.timeout(wait):
                    await line.wake.wait()
            except TimeoutError:
                continue

    def _reassign(self, polled: Polled) -> None:
        for change in polled.changes:
            place = (change.topic, change.partition)
            self._assigned.pop(place, None)
            self._positions.pop(place, None)
            self._committed.pop(place, None)
            for line in self._lines:
                line.drop(*place)
            if isinstance(change, Assigned):
                self._assigned[place] = change
                self._positions[place] = 0
                self._committed[place] = change.committed

    def _take(self, record: Record) -> None:
        if (record.topic, record.partition) not in self._assigned:
            return
        try:
            file = read_file(record)
        except OutputError as error:
            self._unreadable(record, error)
            return
        for line in self._lines:
            self._give(line, file, record)

    def _give(self, line: Line, file: FileRecord, record: Record) -> None:
        try:
            snapshot = line.take(file, record.topic, record.partition, record.offset)
        except (SinkError, OutputError) as error:
            self._hold_up(line, file.pull.artifact, (record.topic, record.partition), error)
            return
        if snapshot is not None:
            faults.passing("snapshot_assembled")

    async def _commit(self) -> None:
        """Commit each partition as far as nothing before it would be needed again."""
        if not self.is_caught_up:
            return
        for place, position in self._positions.items():
            needed = [at for line in self._lines if (at := line.needed_from(place)) is not None]
            safe = min([position, *needed])
            if safe > max(0, self._committed[place]):
                await self._feed.commit(*place, safe)
                self._committed[place] = safe

    def _look_for_slow_pulls(self) -> None:
        now = self._clock.monotonic()
        collecting: dict[tuple[str, str], float] = {}
        for line in self._lines:
            for pull in line.collecting:
                key = (line.chain.name, pull.pull_id)
                collecting[key] = self._first_seen.get(key, now)
                if now - collecting[key] > line.timeout.total_seconds() and key not in self._warned:
                    self._warned.add(key)
                    late = _incomplete(pull, f"came within {line.timeout.total_seconds():g} s")
                    self._hold_up(line, pull.artifact, pull.place, late)
        self._first_seen = collecting
        self._warned &= collecting.keys()

    def _tell_lag(self, ends: Mapping[Place, int]) -> None:
        for line in self._lines:
            behind = 0
            for place, end in ends.items():
                if place in self._positions:
                    at = line.needed_from(place)
                    behind += max(0, end - (self._positions[place] if at is None else at))
            self._status.sink_lag(self._id(line), self._clock.now(), behind)

    def _applied(self, line: Line, worked: Worked, seconds: float) -> None:
        applied = worked.applied
        digest = worked.snapshots[-1].pull.artifact_digest if worked.snapshots else ""
        self._status.sink_applied(
            self._id(line), self._clock.now(), digest,
            puts=applied.puts, deletes=applied.deletes, skips=applied.skips,
        )  # fmt: skip
        drift = not worked.news and bool(applied.puts or applied.deletes)
        what = "repaired what was changed in the store" if drift else "snapshot applied"
        _LOG.log(
            logging.WARNING if drift else logging.INFO if worked.news else logging.DEBUG,
            "%s flow=%s sink=%s digest=%s puts=%d deletes=%d unchanged=%d unmatched=%d seconds=%.3f%s",
            what, self._flow, line.chain.name, digest, applied.puts, applied.deletes, applied.skips, applied.unmatched,
            seconds, f" waits_for={','.join(sorted(line.waits_for))}" if line.waits_for else "",
            extra={"flow": self._flow, "sink": line.chain.name, "digest": digest, "puts": applied.puts,
                   "deletes": applied.deletes, "unchanged": applied.skips, "unmatched": applied.unmatched},
        )  # fmt: skip

    def _hold_up(self, line: Line, artifact: str, place: Place, error: OciSyncError) -> None:
        line.held_up[artifact] = HeldUp(place, error)
        self._failed(line, error)

    def _failed(self, line: Line, error: OciSyncError) -> None:
        wait = line.wait_seconds(self._clock.monotonic())
        next_try = self._clock.now() + timedelta(seconds=wait) if wait is not None and line.failures else None
        self._status.sink_failed(self._id(line), self._clock.now(), error, next_try)
        # The first failures say it; the same line once a minute for hours would only bury them, and what is new.
        is_new = self._told.get(line.chain.name) != str(error)
        self._told[line.chain.name] = str(error)
        _LOG.log(
            logging.ERROR if is_new or line.failures <= 3 else logging.DEBUG,
            "%s", error, extra={"flow": self._flow, "sink": line.chain.name, "reason": error.reason},
        )  # fmt: skip

    def _unreadable(self, record: Record, error: OutputError) -> None:
        """Told of, and its pull is held up where the record says whose it is."""
        place = (record.topic, record.partition)
        try:
            pull = read_pull_facts(record)
        except OutputError:
            pull = None  # nobody's
        for line in self._lines:
            if pull is not None and line.cannot_read(pull, place, record.offset):
                line.held_up[pull.artifact] = HeldUp(place, error)
                self._status.sink_failed(self._id(line), self._clock.now(), error, None)
        _LOG.error("%s", error, extra={"flow": self._flow, "reason": error.reason, "offset": record.offset})

    def _id(self, line: Line) -> SinkId:
        return SinkId(self._flow, line.chain.name)

    async def _close(self) -> None:
        for line in self._lines:
            await line.chain.close()


def _incomplete(pull: Collecting, what: str) -> SinkError:
    return SinkError(
        reason="SnapshotIncomplete",
        doing=f"collecting pull {pull.pull_id} of {pull.artifact}",
        cause=f"{pull.seen} of its {pull.expected} files {what}",
        remedy="nothing is applied until it is whole or a newer pull comes; if it stays so, look for records that "
        "another producer or the topic's retention removed, and pull again with force_pull (operator)",
    )
