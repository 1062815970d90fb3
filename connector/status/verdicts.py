"""The judgement of sources and sinks: Ready, Reconciling, Stalled, each with its reason and words. Pure.

The three are independent. `Ready`: readers have what the registry named at the last look, and somebody still looks.
`Reconciling`: work is under way. `Stalled`: it will not mend itself, a person is needed.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from connector.status.facts import INTERVALS_UNTIL_OVERDUE, Partition, PartitionState, Sink, Source, Truth


class Verdict(NamedTuple):
    """A condition without its history. `began` is set where it became true before the event that shows it."""

    status: Truth
    reason: str
    message: str
    began: datetime | None = None


class Verdicts(NamedTuple):
    """The three conditions of one source or sink."""

    ready: Verdict
    reconciling: Verdict
    stalled: Verdict


_NOTHING_STALLED = Verdict(Truth.FALSE, "Progressing", "nothing waits for a person")


def judge_source(source: Source, partition: Partition | None, at: datetime) -> Verdicts:
    """What is to be said of a source at a moment; `partition` is None where it is not assigned to this worker."""
    return Verdicts(
        _not_running(source, partition) or _running_ready(source, at),
        _source_reconciling(source, partition),
        _source_stalled(source, partition, at),
    )


def judge_sink(sink: Sink) -> Verdicts:
    """What is to be said of a sink. An idle sink is a ready one, so time alone changes nothing."""
    return Verdicts(_sink_ready(sink), _sink_reconciling(sink), _sink_stalled(sink))


def clock_time(at: datetime | None) -> str:
    """A moment as people read it in a message: UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else "never"


def _not_running(source: Source, partition: Partition | None) -> Verdict | None:
    if partition is None:
        why = f"partition {source.partition} of the offsets topic is not assigned to this worker"
        return Verdict(Truth.UNKNOWN, "NotOwned", why)
    serving = _serving(source)
    if partition.problem is not None:
        return Verdict(Truth.FALSE, partition.problem.reason, f"{partition.problem.message}; {serving}")
    if partition.state is PartitionState.RESTORING:
        return Verdict(Truth.UNKNOWN, "Restoring", f"reading the offsets of partition {partition.number}; {serving}")
    if partition.state is PartitionState.DRAINING:
        return Verdict(Truth.UNKNOWN, "Draining", f"giving up partition {partition.number}; {serving}")
    return None


def _running_ready(source: Source, at: datetime) -> Verdict:
    serving = _serving(source)
    if source.problem is not None:
        again = f"; next try at {clock_time(source.next_tick)}" if source.next_tick else ""
        return Verdict(Truth.FALSE, source.problem.reason, f"{source.problem.message}; {serving}{again}")
    if source.paused:
        return Verdict(Truth.UNKNOWN, "Paused", f"paused: nobody looks at the registry; {serving}")
    if source.overdue_at is not None and at > source.overdue_at:
        return Verdict(Truth.FALSE, "TickOverdue", f"{_overdue(source)}; {serving}", source.overdue_at)
    if source.last_result is None:
        return Verdict(Truth.UNKNOWN, "Waiting", f"no tick has ended here yet; {serving}")
    reason = "Committed" if source.last_result == "changed" else "Unchanged"
    return Verdict(Truth.TRUE, reason, f"{serving}; the last tick took {_milliseconds(source.took)}")


def _source_reconciling(source: Source, partition: Partition | None) -> Verdict:
    if partition is not None and partition.state is PartitionState.RESTORING:
        return Verdict(Truth.TRUE, "Restoring", f"reading the offsets of partition {partition.number}")
    if partition is not None and source.started_at is not None:
        return Verdict(
            Truth.TRUE, "Progressing", f"a tick runs since {clock_time(source.started_at)}{_retrying(source)}"
        )
    due = f"next tick at {clock_time(source.next_tick)}" if source.next_tick else "no tick is under way"
    return Verdict(Truth.FALSE, "Idle", due)


def _source_stalled(source: Source, partition: Partition | None, at: datetime) -> Verdict:
    if partition is None:
        return Verdict(Truth.FALSE, "NotOwned", "this worker does not run the source")
    problem = partition.problem or source.problem
    if problem is not None:
        return _stalled(problem.reason, problem.message) if not problem.transient else _NOTHING_STALLED
    running = partition.state is PartitionState.RUNNING
    if running and source.overdue_at is not None and at > source.overdue_at:
        return Verdict(Truth.TRUE, "TickOverdue", _overdue(source), source.overdue_at)
    return _NOTHING_STALLED


def _sink_ready(sink: Sink) -> Verdict:
    has = "nothing was applied since this worker began"
    if sink.last_applied:
        has = f"the store has the snapshot {sink.digest}, applied at {clock_time(sink.last_applied)}"
    if sink.problem is not None:
        return Verdict(Truth.FALSE, sink.problem.reason, f"{sink.problem.message}; {has}")
    if sink.last_applied is not None:
        return Verdict(Truth.TRUE, "Applied", has)
    if sink.lag_records == 0:
        return Verdict(Truth.TRUE, "CaughtUp", f"{sink.topic} holds no newer snapshot; {has}")
    return Verdict(Truth.UNKNOWN, "Waiting", f"{sink.topic} is not read to its end yet; {has}")


def _sink_reconciling(sink: Sink) -> Verdict:
    if sink.problem is not None:
        again = f"next try at {clock_time(sink.next_try)}" if sink.next_try else "tried again with the next poll"
        return Verdict(Truth.TRUE, "Retrying", again)
    if sink.lag_records:
        return Verdict(Truth.TRUE, "Progressing", f"{sink.lag_records} records of {sink.topic} wait")
    return Verdict(Truth.FALSE, "Idle", "nothing waits")


def _sink_stalled(sink: Sink) -> Verdict:
    if sink.problem is None or sink.problem.transient:
        return _NOTHING_STALLED
    return _stalled(sink.problem.reason, sink.problem.message)


def _stalled(reason: str, message: str) -> Verdict:
    return Verdict(Truth.TRUE, reason, message)


def _serving(source: Source) -> str:
    delivered = source.delivered
    if delivered is None:
        return "nothing was delivered to readers yet"
    files = f"{delivered.files} file{'' if delivered.files == 1 else 's'}"
    return f"serving the snapshot of {clock_time(delivered.committed_at)} ({source.revision}, {files})"


def _overdue(source: Source) -> str:
    what = "none began"
    if source.started_at:
        what = f"the tick begun at {clock_time(source.started_at)} still runs{_retrying(source)}"
    interval = source.interval.total_seconds() if source.interval else 0
    return f"no tick has ended for {INTERVALS_UNTIL_OVERDUE} intervals of {interval:g} s: {what}"


def _retrying(source: Source) -> str:
    return f"; {source.retrying}" if source.retrying else ""


def _milliseconds(took: timedelta) -> str:
    return f"{took / timedelta(milliseconds=1):.0f} ms"
