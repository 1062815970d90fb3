"""The state itself: outcomes in, views out. Pure; the rules stand in the package's docstring."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from connector.errors import OciSyncError
from connector.status.difference import describe_difference
from connector.status.facts import (
    Attempt,
    Budget,
    Delivered,
    Flow,
    Partition,
    PartitionState,
    Problem,
    Result,
    Sink,
    SinkId,
    Source,
    SourceId,
    Worker,
)
from connector.status.transitions import Transitions
from connector.status.verdicts import clock_time, judge_sink, judge_source
from connector.status.view import SinkView, SourceView, View

# Longer than the longest poll (1 s) and any single librdkafka call that holds the thread (30 s).
_POLL_THREAD_SILENCE = timedelta(seconds=60)
_HISTORY_LENGTH = 10
# While another worker owns the partition, it may deliver and fail: nothing we saw before says how things stand.
_FORGOTTEN: dict[str, Any] = {
    **dict.fromkeys(["delivered", "last_change", "started_at", "next_tick", "last_result", "problem"]),
    "paused": False,
    "retrying": "",
    "consecutive_failures": 0,
}


class Status:
    """Receives outcomes, gives views.

    A source is `register`ed once, its partition goes RESTORING, then `source_restored`, then RUNNING; each tick is
    `source_started` and one of unchanged, committed, failed, cancelled. Unknown sources and sinks raise KeyError.
    """

    def __init__(self, instance: str, started_at: datetime) -> None:
        self._worker = Worker(instance, started_at)
        self._partitions: dict[int, Partition] = {}
        self._flows: dict[str, Flow] = {}
        self._sources: dict[SourceId, Source] = {}
        self._sinks: dict[SinkId, Sink] = {}
        self._transitions = Transitions()
        self._poll_beat: datetime | None = None

    def __repr__(self) -> str:
        return f"<Status {self._worker.instance} {len(self._sources)} sources {len(self._partitions)} partitions>"

    # Sources -------------------------------------------------------------------------------------------------------

    def register_source(
        self,
        source: SourceId,
        at: datetime,
        *,
        artifact: str,
        tag: str | None,
        partition: int,
        interval: timedelta | None = None,
    ) -> None:
        """Know a source this worker carries, whether or not it owns its partition. Once for each."""
        self._sources[source] = Source(source, artifact, tag, partition, interval, watched_since=at)
        self._settle_source(source, at)

    def source_restored(self, source: SourceId, at: datetime, delivered: Delivered | None) -> None:
        """Learn from the offsets topic what readers have, before the first tick.

        Where that is not what was known, the outcome of an earlier tick says nothing any more.
        """
        before = self._sources[source]
        result = before.last_result if delivered == before.delivered else None
        change = delivered.committed_at if delivered else None
        self._source_update(source, at, delivered=delivered, last_change=change, last_result=result)

    def source_started(self, source: SourceId, at: datetime) -> None:
        """A tick begins."""
        self._source_update(source, at, started_at=at, retrying="")

    def source_retries(self, source: SourceId, at: datetime, error: OciSyncError, attempt: int) -> None:
        """A request of the tick under way failed and is made again, for the `attempt`th time."""
        self._source_update(source, at, retrying=f"attempt {attempt} follows after: {Problem.of(error).message}")

    def source_unchanged(
        self, source: SourceId, at: datetime, digest: str, took: timedelta, next_tick: datetime | None = None
    ) -> None:
        """A tick ended: the reference still names `digest`.

        Raises ValueError, and changes nothing, where readers were not known to have just that: a restored offset is
        told by `source_restored`, and anything else is a bug that must not be shown as Ready.
        """
        delivered = self._sources[source].delivered
        owned = self._sources[source].partition in self._partitions
        if owned and (delivered is None or delivered.digest != digest):
            known = delivered.digest if delivered else "nothing"
            raise ValueError(f"{'/'.join(source)} cannot be unchanged at {digest}: readers have {known}")
        self._tick_ended(source, at, "unchanged", took, next_tick, problem=None, last_success=at)

    def source_committed(
        self,
        source: SourceId,
        at: datetime,
        delivered: Delivered,
        took: timedelta,
        next_tick: datetime | None = None,
    ) -> None:
        """A tick ended: readers have a new snapshot."""
        now = {"delivered": delivered, "last_change": delivered.committed_at, "last_success": at, "problem": None}
        self._tick_ended(source, at, "changed", took, next_tick, **now)

    def source_failed(
        self,
        source: SourceId,
        at: datetime,
        error: OciSyncError,
        next_tick: datetime | None,
        took: timedelta = timedelta(),
    ) -> None:
        """A tick ended in an error of the tree; readers have what they had."""
        facts = self._sources[source]
        problem = Problem.of(error)
        errors = Counter(facts.errors)
        errors[problem.kind, problem.reason] += 1
        failures = facts.consecutive_failures + 1
        self._tick_ended(
            source, at, "error", took, next_tick, problem=problem, errors=dict(errors), consecutive_failures=failures
        )

    def source_cancelled(self, source: SourceId, at: datetime) -> None:
        """A tick under way was given up (revoked, stopping); it says nothing of the registry either."""
        self._source_update(source, at, started_at=None, retrying="")

    def source_paused(self, source: SourceId, at: datetime, paused: bool) -> None:
        """Ticks of the source stop, or go on; going on restarts the watch for overdue ticks."""
        self._source_update(source, at, paused=paused, watched_since=at)

    def source_scheduled(self, source: SourceId, at: datetime, next_tick: datetime | None) -> None:
        """The next tick moved, by a trigger or a restored schedule."""
        self._source_update(source, at, next_tick=next_tick)

    def _tick_ended(
        self,
        source: SourceId,
        at: datetime,
        result: Result,
        took: timedelta,
        next_tick: datetime | None,
        **facts: Any,  # fields of Source, for `replace`
    ) -> None:
        before = self._sources[source]
        if before.partition not in self._partitions:
            # The commit of a partition just lost: counted, but how the source stands is the new owner's to tell.
            counted = {"ticks": _count(before.ticks, result), "errors": facts.get("errors", before.errors)}
            return self._source_update(source, at, started_at=None, **counted)
        facts.setdefault("consecutive_failures", 0)
        now: dict[str, Any] = {"last_attempt": at, "last_result": result, "took": took, "next_tick": next_tick}
        now |= {"started_at": None, "retrying": ""}
        ticks = _count(before.ticks, result)
        if result != "unchanged":
            delivered, problem = facts.get("delivered"), facts.get("problem")
            attempt = Attempt(
                at,
                result,
                delivered.digest if delivered else "",
                problem.reason if problem else "",
                took.total_seconds(),
            )
            facts["history"] = (attempt, *before.history)[:_HISTORY_LENGTH]
        return self._source_update(source, at, watched_since=at, ticks=ticks, **now, **facts)

    def _source_update(self, source: SourceId, at: datetime, **facts: Any) -> None:  # fields of Source, for `replace`
        overdue_at = self._sources[source].overdue_at
        if overdue_at is not None and at > overdue_at:
            self._settle_source(source, at)  # what time alone changed meanwhile is a transition of its own
        self._sources[source] = replace(self._sources[source], **facts)
        self._settle_source(source, at)

    # Sinks ---------------------------------------------------------------------------------------------------------

    def register_sink(self, sink: SinkId, at: datetime, *, topic: str) -> None:
        """Know a sink this worker runs. Once for each."""
        self._sinks[sink] = Sink(sink, topic)
        self._transitions.settle(sink, judge_sink(self._sinks[sink]), at)

    def sink_applied(
        self, sink: SinkId, at: datetime, digest: str, *, puts: int = 0, deletes: int = 0, skips: int = 0
    ) -> None:
        """A whole snapshot is in the store; `skips` counts keys whose stored value was equal already."""
        facts = self._sinks[sink]
        writes = dict(Counter(facts.writes) + Counter(put=puts, delete=deletes, skip=skips))
        snapshots = _count(facts.snapshots, "applied" if puts or deletes else "unchanged")
        self._sink_update(
            sink, at, digest=digest, last_applied=at, last_attempt=at, next_try=None, problem=None,
            consecutive_failures=0, snapshots=snapshots, writes=writes,
        )  # fmt: skip

    def sink_failed(self, sink: SinkId, at: datetime, error: OciSyncError, next_try: datetime | None) -> None:
        """A snapshot could not be applied, or the topic not be read."""
        facts = self._sinks[sink]
        self._sink_update(
            sink, at, last_attempt=at, next_try=next_try, problem=Problem.of(error),
            consecutive_failures=facts.consecutive_failures + 1, snapshots=_count(facts.snapshots, "error"),
        )  # fmt: skip

    def sink_follows(self, sink: SinkId, at: datetime) -> None:
        """The topic is read again; what kept it from being read is over."""
        self._sink_update(sink, at, next_try=None, problem=None, consecutive_failures=0)

    def sink_lag(self, sink: SinkId, at: datetime, records: int) -> None:
        """How many committed records of the topic the sink has not worked on."""
        if records != self._sinks[sink].lag_records:
            self._sink_update(sink, at, lag_records=records)

    def _sink_update(self, sink: SinkId, at: datetime, **facts: Any) -> None:  # fields of Sink, for `replace`
        self._sinks[sink] = replace(self._sinks[sink], **facts)
        self._transitions.settle(sink, judge_sink(self._sinks[sink]), at)

    # Partitions, flows, the worker ---------------------------------------------------------------------------------

    def group_joined(self, at: datetime, generation: int) -> None:
        """The group answered with an assignment, be it empty."""
        self._worker = replace(self._worker, joined=True, generation=generation)
        self.kafka_answered(at)

    def group_left(self) -> None:
        """Our membership ended; partitions are told of by `partition_lost`."""
        self._worker = replace(self._worker, joined=False, generation=-1)

    def partition_state(self, number: int, at: datetime, state: PartitionState) -> None:
        """A partition is assigned (RESTORING), runs its sources, or drains."""
        self._partition_update(number, at, Partition(number, state, at))

    def partition_failed(self, number: int, at: datetime, error: OciSyncError) -> None:
        """A partition is ours but its sources cannot run, for instance `RestoreStalled`."""
        self._partition_update(number, at, Partition(number, PartitionState.FAILED, at, Problem.of(error)))

    def partition_lost(self, number: int, at: datetime) -> None:
        """A partition is revoked or lost: its sources are another worker's."""
        self._partition_update(number, at, None)

    def _partition_update(self, number: int, at: datetime, partition: Partition | None) -> None:
        mine = [source.id for source in self._sources.values() if source.partition == number]
        for source in mine:
            self._settle_source(source, at)
        if partition is None:
            self._partitions.pop(number, None)
        else:
            self._partitions[number] = partition
        forgotten = {} if partition else _FORGOTTEN
        for source in mine:
            self._sources[source] = replace(self._sources[source], watched_since=at, **forgotten)
            self._settle_source(source, at)

    def flow_loaded(self, file: str, at: datetime, name: str) -> None:
        """A flow file is in use."""
        self._flows[file] = Flow(file, name, at)

    def flow_failed(self, file: str, at: datetime, error: OciSyncError, name: str = "") -> None:
        """A flow file cannot be used; the other flows run."""
        self._flows[file] = Flow(file, name, at, Problem.of(error))

    def worker_flows(self, flows_by_worker: Mapping[str, Iterable[str]]) -> None:
        """What the live workers of the group say they carry, ours included; where they differ, `FlowsDiffer`."""
        self._worker = replace(self._worker, flows_differ=describe_difference(flows_by_worker))

    def kafka_answered(self, at: datetime) -> None:
        """The brokers answered."""
        since = self._worker.kafka_since if self._worker.kafka_reachable else at
        self._worker = replace(self._worker, kafka_reachable=True, kafka_since=since, kafka_problem=None)

    def kafka_failed(self, at: datetime, error: OciSyncError) -> None:
        """No broker answers."""
        since = self._worker.kafka_since if self._worker.kafka_reachable is False else at
        self._worker = replace(self._worker, kafka_reachable=False, kafka_since=since, kafka_problem=Problem.of(error))

    def registry_budget(self, registry: str, remaining: int, limit: int | None) -> None:
        """What a registry says of our budget; `registry` is the one that a flow names."""
        budgets = {**self._worker.budgets, registry: Budget(remaining, limit)}
        self._worker = replace(self._worker, budgets=budgets)

    def poll_thread_beat(self, at: datetime) -> None:
        """The Kafka polling thread turned once more; the one call that may come from any thread."""
        self._poll_beat = at

    # Views ---------------------------------------------------------------------------------------------------------

    def alive(self, at: datetime) -> bool:
        """Whether the polling thread, once started, still turns. Nothing external."""
        return self._poll_beat is None or at - self._poll_beat <= _POLL_THREAD_SILENCE

    def not_serving(self, at: datetime) -> str:
        """Why this worker cannot do its part, '' if it can: no group, a restore under way, no broker.

        Not the registry's state, nor a failing source: restarting a pod would not mend them.
        """
        if self._worker.kafka_reachable is None:
            return "Kafka was not reached yet"
        if not self._worker.kafka_reachable:
            return f"Kafka is not reachable since {clock_time(self._worker.kafka_since)}"
        if self._sources and not self._worker.joined:
            return "the consumer group has not assigned partitions yet"
        restoring = sorted(p.number for p in self._partitions.values() if p.state is PartitionState.RESTORING)
        return f"restoring the offsets of partitions {restoring}" if restoring else ""

    def owns(self, source: SourceId) -> bool:
        """Whether this worker runs the source now. Raises KeyError for one that no flow file names."""
        partition = self._partitions.get(self._sources[source].partition)
        return partition is not None and partition.state is PartitionState.RUNNING

    def view(self, at: datetime) -> View:
        """Everything as it stands at a moment, sorted by name."""
        return View(
            at=at,
            worker=self._worker,
            partitions=tuple(self._partitions[number] for number in sorted(self._partitions)),
            flows=tuple(self._flows[file] for file in sorted(self._flows)),
            sources=tuple(self._source_view(self._sources[source], at) for source in sorted(self._sources)),
            sinks=tuple(self._sink_view(self._sinks[sink], at) for sink in sorted(self._sinks)),
        )

    def _source_view(self, facts: Source, at: datetime) -> SourceView:
        partition = self._partitions.get(facts.partition)
        state = partition.state if partition else None
        return SourceView(facts, state, *self._transitions.conditions(facts.id, judge_source(facts, partition, at), at))

    def _sink_view(self, facts: Sink, at: datetime) -> SinkView:
        return SinkView(facts, *self._transitions.conditions(facts.id, judge_sink(facts), at))

    def _settle_source(self, source: SourceId, at: datetime) -> None:
        facts = self._sources[source]
        self._transitions.settle(source, judge_source(facts, self._partitions.get(facts.partition), at), at)


def _count(counts: Mapping[str, int], key: str) -> dict[str, int]:
    return {**counts, key: counts.get(key, 0) + 1}
