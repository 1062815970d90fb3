"""The status at one moment: frozen, judged, and as plain values for JSON. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from connector.status.facts import Flow, Partition, PartitionState, Problem, Sink, Source, Truth, Worker
from connector.status.verdicts import clock_time

ConditionType = Literal["Ready", "Reconciling", "Stalled"]
Json = dict[str, object]


class Condition(Struct, frozen=True):
    """One judgement with its reason and words; `since` is when `status` last changed."""

    type: ConditionType
    status: Truth
    reason: str
    message: str
    since: datetime


class SourceView(Struct, frozen=True):
    """A source and what is to be said of it; `state` is its partition's, None while another worker may own it."""

    facts: Source
    state: PartitionState | None
    ready: Condition
    reconciling: Condition
    stalled: Condition

    @property
    def owned(self) -> bool:
        """Whether its partition is assigned to this worker."""
        return self.state is not None


class SinkView(Struct, frozen=True):
    """A sink and what is to be said of it."""

    facts: Sink
    ready: Condition
    reconciling: Condition
    stalled: Condition


class View(Struct, frozen=True):
    """Everything at one moment, sorted by name."""

    at: datetime
    worker: Worker
    partitions: tuple[Partition, ...]
    flows: tuple[Flow, ...]
    sources: tuple[SourceView, ...]
    sinks: tuple[SinkView, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing is to be complained of: the fold of everything, so that no part can hide behind another."""
        return next(iter(self.problems()), None) is None

    def problems(self) -> Iterator[str]:
        """One line for each thing that is not as it should be; sources of other workers are theirs to tell."""
        if self.worker.kafka_problem is not None:
            since = clock_time(self.worker.kafka_since)
            yield f"Kafka is not reachable since {since}: {self.worker.kafka_problem.message}"
        if self.worker.flows_differ:
            yield f"FlowsDiffer: {self.worker.flows_differ}"
        for flow in self.flows:
            if flow.problem is not None:
                yield f"flow file {flow.file}: {flow.problem.reason}: {flow.problem.message}"
        for partition in self.partitions:
            if partition.problem is not None:
                yield f"partition {partition.number}: {partition.problem.reason}: {partition.problem.message}"
        for source in self.sources:
            if source.owned and source.ready.status is not Truth.TRUE:
                yield f"{'/'.join(source.facts.id)}: {source.ready.reason}: {source.ready.message}"
        for sink in self.sinks:
            if sink.ready.status is not Truth.TRUE:
                yield f"{'/'.join(sink.facts.id)}: {sink.ready.reason}: {sink.ready.message}"


def as_json(view: View) -> Json:
    """The view as dicts, lists, text and numbers: times in ISO 8601 with milliseconds and Z, durations in seconds."""
    return {
        "at": _iso(view.at),
        "ready": view.ready,
        "problems": list(view.problems()),
        "worker": _worker(view.worker),
        "flows": [_flow(flow) for flow in view.flows],
        "partitions": [_partition(partition) for partition in view.partitions],
        "sources": [_source(source) for source in view.sources],
        "sinks": [_sink(sink) for sink in view.sinks],
    }


def _worker(worker: Worker) -> Json:
    return {
        "instance": worker.instance,
        "started_at": _iso(worker.started_at),
        "joined": worker.joined,
        "generation": worker.generation,
        "kafka": {
            "reachable": worker.kafka_reachable,
            "since": _iso(worker.kafka_since),
            "problem": _problem(worker.kafka_problem),
        },
        "flows_differ": worker.flows_differ,
        "registries": [
            {"registry": registry, "remaining": budget.remaining, "limit": budget.limit}
            for registry, budget in worker.budgets.items()
        ],
    }


def _flow(flow: Flow) -> Json:
    return {"file": flow.file, "name": flow.name, "since": _iso(flow.since), "problem": _problem(flow.problem)}


def _partition(partition: Partition) -> Json:
    return {
        "number": partition.number,
        "state": partition.state.value,
        "since": _iso(partition.since),
        "problem": _problem(partition.problem),
    }


def _source(view: SourceView) -> Json:
    facts = view.facts
    delivered = facts.delivered
    return {
        "flow": facts.id.flow,
        "source": facts.id.source,
        "artifact": facts.artifact,
        "partition": facts.partition,
        "state": view.state.value if view.state else None,
        "conditions": [_condition(one) for one in (view.ready, view.reconciling, view.stalled)],
        "revision": facts.revision,
        "digest": delivered.digest if delivered else None,
        "files": delivered.files if delivered else None,
        "pull_id": delivered.pull_id if delivered else None,
        "committed_at": _iso(delivered.committed_at if delivered else None),
        "interval_seconds": facts.interval.total_seconds() if facts.interval else None,
        "paused": facts.paused,
        "tick_started_at": _iso(facts.started_at),
        "last_attempt": _iso(facts.last_attempt),
        "last_success": _iso(facts.last_success),
        "last_change": _iso(facts.last_change),
        "last_tick_seconds": facts.took.total_seconds(),
        "next_tick": _iso(facts.next_tick),
        "consecutive_failures": facts.consecutive_failures,
        "problem": _problem(facts.problem),
        "ticks": dict(facts.ticks),
        "errors": [{"class": kind, "reason": reason, "count": n} for (kind, reason), n in facts.errors.items()],
        "history": [
            {
                "at": _iso(one.at),
                "result": one.result,
                "digest": one.digest,
                "reason": one.reason,
                "seconds": one.seconds,
            }
            for one in facts.history
        ],
    }


def _sink(view: SinkView) -> Json:
    facts = view.facts
    return {
        "flow": facts.id.flow,
        "sink": facts.id.sink,
        "topic": facts.topic,
        "conditions": [_condition(one) for one in (view.ready, view.reconciling, view.stalled)],
        "digest": facts.digest or None,
        "lag_records": facts.lag_records,
        "last_attempt": _iso(facts.last_attempt),
        "last_applied": _iso(facts.last_applied),
        "next_try": _iso(facts.next_try),
        "consecutive_failures": facts.consecutive_failures,
        "problem": _problem(facts.problem),
        "snapshots": dict(facts.snapshots),
        "writes": dict(facts.writes),
    }


def _condition(condition: Condition) -> Json:
    return {
        "type": condition.type,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": condition.message,
        "since": _iso(condition.since),
    }


def _problem(problem: Problem | None) -> Json | None:
    if problem is None:
        return None
    return {
        "class": problem.kind,
        "reason": problem.reason,
        "message": problem.message,
        "transient": problem.transient,
    }


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
