"""The source half of one process: a member of the group that owns partitions and runs their sources.

Rules. (1) `revoked` returns only when nothing of the partition is written any more. (2) With `once`, every owned source
ticks one time, and `run` returns what failed; where other members hold them all, it says so and fails. (3) Only a
membership that can never recover ends the worker.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from connector import faults
from connector.errors import OciSyncError, OutputError
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients
from connector.kafka.groups import group_members
from connector.kafka.membership import Event
from connector.kafka.notice import post
from connector.kafka.ownership import POLL_SECONDS, Ownership
from connector.kafka.record import Record
from connector.kafka.topics import Topics
from connector.records.request import REQUEST_PREFIX
from connector.records.worker_notice import (
    NOTICE_PARTITION,
    WorkerNotice,
    left_record,
    living,
    notice_record,
    read_notice,
)
from connector.source.group import Group, writes_of
from connector.source.partition import OwnedPartition, now
from connector.source.restore import Restorer
from connector.source.surroundings import Limits, ScheduledSource, Surroundings, topic_gone
from connector.status import SourceId, Status
from connector.telemetry import Telemetry

_LOG = logging.getLogger(__name__)

_RESTORES_AT_ONCE = 8
_BRIEF_POLL_SECONDS = 0.01  # of a worker that ends soon
_JOIN_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 2.0
# What a group refuses (a session time-out, an ACL) a person must mend; said at each try it would fill the log.
_TELL_AGAIN_SECONDS = 60.0


class Worker:
    """Joins, runs and leaves; `run` once."""

    def __init__(
        self,
        sources: Sequence[ScheduledSource],
        clients: Clients,
        topics: Topics,
        changelog: Changelog,
        group: Group,
        status: Status,
        telemetry: Telemetry,
        *,
        once: bool = False,
        join_seconds: float = _JOIN_SECONDS,
    ) -> None:
        self._sources = {scheduled.id: scheduled for scheduled in sources}
        self._clients = clients
        self._topics = topics
        self._changelog = changelog
        self._group = group
        self._status = status
        self._telemetry = telemetry
        self._notice = WorkerNotice(clients.name, clients.client_id, _sources_by_flow(sources))
        self._once = once
        self._join_seconds = join_seconds
        self._owned: dict[int, OwnedPartition] = {}
        self._assigned = asyncio.Event()
        self._changed = asyncio.Event()
        self._ticked: set[SourceId] = set()
        self._finished = asyncio.Event()
        self._doubt = asyncio.Event()
        self._joined = False
        self._fatal: OutputError | None = None
        self._group_error: OutputError | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._ownership: Ownership | None = None
        self.failures: dict[SourceId, OciSyncError] = {}
        self._around = Surroundings(
            status=status,
            telemetry=telemetry,
            restorer=Restorer(changelog, group.offsets_topic),
            limits=self._limits,
            offsets_topic=group.offsets_topic,
            restoring=asyncio.Semaphore(_RESTORES_AT_ONCE),
            once=once,
            failures=self.failures,
        )

    def __repr__(self) -> str:
        return f"<Worker group={self._group.name} {len(self._sources)} sources partitions={sorted(self._owned)}>"

    async def run(self, stop: asyncio.Event) -> Mapping[SourceId, OciSyncError]:
        """Join the group and run until `stop`, or with `once` until each owned source has ticked.

        Returns the last failure of each source that failed. Raises OutputError when the group cannot be joined.
        """
        if not self._group.is_fenced:
            _LOG.warning(
                "delivery is at_least_once: nothing is fenced, a reader may meet a part of a pull, and one that is cut "
                "is sent again whole"
            )
        for scheduled in self._sources.values():
            source = scheduled.source
            self._status.register_source(
                scheduled.id, now(), artifact=source.artifact, tag=source.reference.tag,
                partition=source.offset_partition, interval=None if self._once else scheduled.schedule.interval,
            )  # fmt: skip
        async with (
            asyncio.TaskGroup() as self._tasks,
            Ownership(
                self._clients,
                topic=self._group.offsets_topic,
                group=self._group.name,
                owner=self,
                control_prefix=REQUEST_PREFIX,
                instance_id=self._group.instance_id,
                properties=dict(self._group.properties),
                poll_seconds=_BRIEF_POLL_SECONDS if self._once else POLL_SECONDS,
            ) as self._ownership,
        ):
            beside = [
                self._tasks.create_task(self._watch_kafka(), name="watch-kafka"),
                self._tasks.create_task(self._compare_flows(), name="compare-flows"),
            ]
            try:
                await self._until_done(stop)
            finally:
                for task in beside:
                    task.cancel()
        self._status.group_left()
        await self._leave()
        self._tell_who_ticks_the_rest(stop)
        if self._fatal is not None:
            raise self._fatal
        return self.failures

    def trigger(self, source: SourceId) -> bool:
        """Let a source tick now; False where another worker owns it. Raises KeyError for one that no flow names."""
        scheduled = self._sources[source]
        partition = self._owned.get(scheduled.source.offset_partition)
        if partition is None:
            return False
        partition.desk(scheduled).ask_now()
        return True

    def noticed(self, record: Record) -> None:
        """Hand a request to the partition it lies in, if that is still ours."""
        partition = self._owned.get(record.partition)
        if partition is not None:
            partition.noticed(record)

    async def assigned(self, partitions: frozenset[int]) -> None:
        """Begin to restore the partitions that are ours now."""
        assert self._tasks is not None
        assert self._ownership is not None
        self._status.group_joined(now(), self._ownership.generation)
        self._telemetry.rebalanced()
        for number in sorted(partitions):
            mine = tuple(one for one in self._sources.values() if one.source.offset_partition == number)
            writes = writes_of(
                self._group, self._clients, self._ownership, self._changelog, number, self._telemetry.transaction
            )
            partition = OwnedPartition(number, mine, writes, self._around)
            self._owned[number] = partition
            partition.happened(Event.ASSIGNED)
            partition.task = self._tasks.create_task(self._run_partition(partition), name=f"partition-{number}")
        sources = sum(len(self._owned[number].sources) for number in partitions)
        _LOG.debug("assigned %d partitions with %d sources", len(partitions), sources)
        self._joined, self._group_error = True, None
        if self._doubt.is_set():
            self._doubt.clear()
            _LOG.info("Kafka answers again")
        self._status.kafka_answered(now())
        self._assigned.set()
        self._changed.set()
        self._finish_once()

    async def revoked(self, partitions: frozenset[int], *, lost: bool) -> None:
        """End the partitions' pulls; a commit under way is waited for, the rest is aborted."""
        faults.passing("revoked")
        given_up = [self._owned.pop(number) for number in sorted(partitions) if number in self._owned]
        for partition in given_up:
            partition.happened(Event.LOST if lost else Event.REVOKED)
        tasks = [partition.task for partition in given_up if partition.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for partition in given_up:
            partition.happened(Event.DRAINED)
        self._changed.set()
        if lost:
            self._status.group_left()  # until there is an assignment again
        if lost and self._fatal is None and any(partition.sources for partition in given_up):
            # Nothing else is heard of a broker that keeps its connections and stands still, for a minute.
            _LOG.warning(
                "group %s: this worker is out of it, so its sources pause: the group heard nothing of it for "
                "session.timeout.ms, or its coordinator does not answer; it joins again by itself",
                self._group.name,
            )
            self._doubt.set()
        _LOG.debug("gave up %d partitions", len(given_up))

    async def group_failed(self, error: OutputError, *, fatal: bool) -> None:
        """Show it; a member that can never recover ends the worker, so that its supervisor starts a new one."""
        # A single run that nothing is assigned to ends in this very error.
        _LOG.log(
            logging.WARNING if self._once and not fatal else logging.ERROR, "%s", error, extra={"reason": error.reason}
        )
        self._status.kafka_failed(now(), error)
        self._group_error = error
        self._doubt.set()
        if fatal:
            self._fatal = error
            self._finished.set()

    async def _compare_flows(self) -> None:
        """Say what this worker carries, and after each rebalance see whether all live workers carry the same."""
        if self._once:
            return
        topic = self._group.offsets_topic
        while True:
            await self._assigned.wait()
            self._assigned.clear()
            try:
                await post(self._clients, [notice_record(topic, self._notice)], "telling the group of our flows")
                self._status.worker_flows(await self._flows_of_the_living())
            except OutputError as error:
                _LOG.warning("%s", error, extra={"reason": error.reason})

    async def _flows_of_the_living(self) -> dict[str, tuple[str, ...]]:
        restored = await self._changelog.read(self._group.offsets_topic, [NOTICE_PARTITION], read_notice)
        members = await group_members(self._topics.admin, self._group.name)
        notices = [one for one in restored[NOTICE_PARTITION].entries.values() if one is not None]
        return {one.name: tuple(sorted(one.sources)) for one in living(notices, members)}

    async def _watch_kafka(self) -> None:
        """After a failure of the group, ask until the brokers answer again: the client itself says only when not.

        That they answer says nothing of a refusal, which stands until partitions are assigned or it is not said again.
        """
        while True:
            await self._doubt.wait()
            if self._group_error is not None and self._group_error.reason != "KafkaUnreachable":
                await asyncio.sleep(_TELL_AGAIN_SECONDS)
                if not self._doubt.is_set():
                    continue
            try:
                await self._limits([self._group.offsets_topic])
            except OutputError as error:
                self._status.kafka_failed(now(), error)
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
            else:
                self._doubt.clear()
                if self._ownership is not None:
                    self._ownership.recovered()
                _LOG.info("Kafka answers again")

    def polled(self) -> None:
        """The polling thread is alive."""
        self._status.poll_thread_beat(now())

    async def _run_partition(self, partition: OwnedPartition) -> None:
        await partition.run()
        self._ticked.update(one.id for one in partition.sources)
        self._finish_once(partition)

    def _finish_once(self, ended: OwnedPartition | None = None) -> None:
        """With `once`: end when sources of ours have ticked, and none that is ours now has its tick before it."""
        others = (other for other in self._owned.values() if other is not ended)
        if self._once and self._ticked and all(other.task is not None and other.task.done() for other in others):
            self._finished.set()

    async def _limits(self, names: Collection[str]) -> Limits:
        found = await self._topics.describe(sorted(names))
        self._status.kafka_answered(now())
        if self._group.offsets_topic in set(names) - found.keys():
            raise topic_gone(self._group.offsets_topic)
        return {name: topic.max_message_bytes for name, topic in found.items()}

    async def _until_done(self, stop: asyncio.Event) -> None:
        ends = [asyncio.ensure_future(event.wait()) for event in (stop, self._finished)]
        try:
            while True:
                # A single run may have to wait for a member that leaves, or whose session runs out.
                waits_for_sources = self._once and not any(partition.sources for partition in self._owned.values())
                patience = self._join_seconds if waits_for_sources else None
                changed = asyncio.ensure_future(self._changed.wait())
                done, _ = await asyncio.wait([*ends, changed], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not done:
                    raise self._group_error or self._nothing_to_tick()
                if not done.isdisjoint(ends):
                    return
                self._changed.clear()
        finally:
            for end in ends:
                end.cancel()

    def _nothing_to_tick(self) -> OutputError:
        look = f"kafka-consumer-groups.sh --describe --group {self._group.name} --members"
        if self._joined:
            return OutputError(
                reason="GroupInUse",
                doing=f"a single run in consumer group {self._group.name}",
                cause=f"other members hold the partitions of all its sources, and gave none up in "
                f"{self._join_seconds:.0f} s",
                remedy=f"let those members tick them (oci-sync trigger), or stop them: {look} (operator)",
            )
        return OutputError(
            reason="KafkaUnreachable",
            doing=f"joining consumer group {self._group.name}",
            cause=f"no partition was assigned within {self._join_seconds:.0f} s",
            remedy=f"look at the group: {look} (operator)",
        )

    def _tell_who_ticks_the_rest(self, stop: asyncio.Event) -> None:
        others = self._sources.keys() - self._ticked
        if self._once and others and not stop.is_set() and self._fatal is None:
            names = ", ".join("/".join(one) for one in sorted(others)[:5]) + (", …" if len(others) > 5 else "")
            _LOG.warning(
                "other members of the group tick %d sources, which were not ticked here: %s", len(others), names
            )

    async def _leave(self) -> None:
        """Take our notice back; a worker that cannot is told from the living by its client id."""
        if self._joined and not self._once:
            try:
                await post(self._clients, [left_record(self._group.offsets_topic, self._notice.name)], "leaving")
            except OutputError as error:
                _LOG.debug("%s", error)


def _sources_by_flow(sources: Sequence[ScheduledSource]) -> dict[str, dict[str, str]]:
    by_flow: dict[str, dict[str, str]] = {}
    for scheduled in sources:
        by_flow.setdefault(scheduled.id.flow, {})[scheduled.id.source] = scheduled.source.artifact
    return by_flow
