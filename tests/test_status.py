"""The conditions of sources and sinks: they say what is so, whatever happened in whatever order."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import ConfigError, LayerError, OciSyncError, OutputError, RegistryError
from connector.status import Delivered, PartitionState, SinkId, SourceId, Status, Truth, as_json
from connector.status.difference import describe_difference
from connector.status.view import SourceView

START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
INTERVAL = timedelta(seconds=30)
SOURCE = SourceId("system_sync_flows", "pull_repo")
SINK = SinkId("system_sync_flows", "save_to_kv")
DIGEST = "sha256:" + "9f" * 32
DELIVERED = Delivered(DIGEST, files=206, pull_id="0190", committed_at=START)
TOOK = timedelta(milliseconds=41)


def unauthorized() -> OciSyncError:
    return RegistryError(
        reason="Unauthorized",
        doing="reading the manifest of ghcr.io/org/app:prod",
        cause="401 from ghcr.io",
        remedy="add an entry for ghcr.io to the credentials file (operator)",
    )


def unreachable() -> OciSyncError:
    return RegistryError(reason="Unreachable", doing="HEAD", cause="connection refused", remedy="start it")


def running() -> Status:
    status = Status("worker-1", START)
    status.kafka_answered(START)
    status.register_source(
        SOURCE, START, artifact="registry.example.com/org/flows:prod", tag="prod", partition=3, interval=INTERVAL
    )
    status.group_joined(START, 1)
    status.partition_state(3, START, PartitionState.RESTORING)
    status.source_restored(SOURCE, START, DELIVERED)
    status.partition_state(3, START, PartitionState.RUNNING)
    return status


def source(status: Status, at: datetime) -> SourceView:
    return status.view(at).sources[0]


def test_a_source_is_not_ready_before_its_first_tick_ended() -> None:
    ready = source(running(), START + SECOND).ready

    assert (ready.status, ready.reason) == (Truth.UNKNOWN, "Waiting")
    assert "serving the snapshot of 2026-11-24T10:00:00Z" in ready.message


def test_an_unchanged_tick_makes_a_source_ready_and_says_what_readers_have() -> None:
    status = running()

    status.source_started(SOURCE, START + SECOND)
    status.source_unchanged(SOURCE, START + 2 * SECOND, DIGEST, TOOK)

    one = source(status, START + 3 * SECOND)
    assert (one.ready.status, one.ready.reason) == (Truth.TRUE, "Unchanged")
    assert one.ready.since == START + 2 * SECOND
    assert f"prod@{DIGEST}, 206 files" in one.ready.message
    assert one.facts.revision == f"prod@{DIGEST}"
    assert status.view(START + 3 * SECOND).ready


def test_a_failed_tick_takes_ready_away_and_names_the_next_step_and_what_readers_still_have() -> None:
    status = running()
    status.source_unchanged(SOURCE, START + SECOND, DIGEST, TOOK)

    status.source_failed(SOURCE, START + 31 * SECOND, unauthorized(), START + 61 * SECOND)

    one = source(status, START + 32 * SECOND)
    assert (one.ready.status, one.ready.reason) == (Truth.FALSE, "Unauthorized")
    for part in ("401 from ghcr.io", "add an entry", "serving the snapshot of 2026-11-24T10:00:00Z", "next try at"):
        assert part in one.ready.message
    assert one.stalled.status is Truth.TRUE, "only a person can mend a missing credential"
    assert one.facts.consecutive_failures == 1
    assert one.facts.last_success == START + SECOND


def test_a_transient_failure_does_not_stall_a_source() -> None:
    status = running()

    status.source_failed(SOURCE, START + SECOND, unreachable(), START + 31 * SECOND)

    one = source(status, START + 2 * SECOND)
    assert (one.ready.status, one.stalled.status) == (Truth.FALSE, Truth.FALSE)


def test_a_source_whose_tick_has_not_ended_in_three_intervals_is_not_ready() -> None:
    status = running()
    status.source_unchanged(SOURCE, START, DIGEST, TOOK)
    status.source_started(SOURCE, START + INTERVAL)

    just_in_time = source(status, START + 3 * INTERVAL)
    too_late = source(status, START + 3 * INTERVAL + SECOND)

    assert just_in_time.ready.status is Truth.TRUE
    assert (too_late.ready.status, too_late.ready.reason) == (Truth.FALSE, "TickOverdue")
    assert too_late.ready.since == START + 3 * INTERVAL, "since it was overdue, not since somebody looked"
    assert "the tick begun at 2026-11-24T10:00:30Z still runs" in too_late.ready.message
    assert too_late.stalled.reason == "TickOverdue"


def test_a_bark_of_the_watchdog_that_nobody_saw_is_still_a_transition() -> None:
    status = running()
    status.source_unchanged(SOURCE, START, DIGEST, TOOK)

    status.source_unchanged(SOURCE, START + 10 * INTERVAL, DIGEST, TOOK)

    assert source(status, START + 10 * INTERVAL).ready.since == START + 10 * INTERVAL


def test_a_pause_is_forgotten_with_the_partition_for_its_new_owner_may_have_ended_it() -> None:
    status = running()
    status.source_paused(SOURCE, START, True)
    status.partition_lost(3, START)
    status.partition_state(3, START, PartitionState.RUNNING)

    (held,) = status.view(START).sources

    assert not held.facts.paused


def test_a_paused_source_is_neither_ready_nor_overdue() -> None:
    status = running()
    status.source_unchanged(SOURCE, START, DIGEST, TOOK)

    status.source_paused(SOURCE, START + SECOND, True)

    one = source(status, START + timedelta(days=1))
    assert (one.ready.status, one.ready.reason, one.stalled.status) == (Truth.UNKNOWN, "Paused", Truth.FALSE)


def test_a_source_of_another_worker_is_not_judged_and_spoils_nothing() -> None:
    status = running()
    status.source_failed(SOURCE, START + SECOND, unauthorized(), None)

    status.partition_lost(3, START + 2 * SECOND)

    one = source(status, START + timedelta(days=1))
    assert (one.ready.status, one.ready.reason) == (Truth.UNKNOWN, "NotOwned")
    assert one.facts.delivered is None, "the new owner may have delivered another"
    assert status.view(START + timedelta(days=1)).ready


def test_a_partition_that_comes_back_does_not_bring_back_its_old_verdict() -> None:
    status = running()
    status.source_unchanged(SOURCE, START + SECOND, DIGEST, TOOK)
    status.partition_lost(3, START + 2 * SECOND)

    status.partition_state(3, START + 3 * SECOND, PartitionState.RESTORING)
    restoring = source(status, START + 3 * SECOND).ready
    status.partition_state(3, START + 4 * SECOND, PartitionState.RUNNING)
    waiting = source(status, START + 4 * SECOND).ready

    assert (restoring.reason, waiting.reason) == ("Restoring", "Waiting")


def test_an_outcome_that_arrives_after_the_partition_was_lost_is_counted_and_not_believed() -> None:
    status = running()
    status.partition_lost(3, START + SECOND)
    error = OutputError(reason="Fenced", doing="committing", cause="a newer generation", remedy="nothing to do")

    status.source_failed(SOURCE, START + 2 * SECOND, error, None)
    status.source_unchanged(SOURCE, START + 2 * SECOND, DIGEST, TOOK)

    one = source(status, START + 2 * SECOND)
    assert one.ready.reason == "NotOwned"
    assert one.facts.errors == {("OutputError", "Fenced"): 1}
    assert one.facts.problem is None


def test_a_source_that_is_fenced_again_and_again_does_not_look_new_each_time() -> None:
    status = running()
    error = OutputError(reason="Fenced", doing="committing", cause="a newer generation", remedy="nothing to do")
    for _ in range(3):
        status.source_failed(SOURCE, START, error, None)
        status.partition_state(3, START, PartitionState.RESTORING)
        status.source_restored(SOURCE, START, DELIVERED)
        status.partition_state(3, START, PartitionState.RUNNING)

    one = source(status, START)

    assert (one.ready.status, one.ready.reason, one.facts.consecutive_failures) == (Truth.FALSE, "Fenced", 3)


def test_an_offset_that_is_gone_after_a_restore_takes_ready_away() -> None:
    status = running()
    status.source_unchanged(SOURCE, START, DIGEST, TOOK)

    status.source_restored(SOURCE, START, None)

    assert source(status, START).ready.status is Truth.UNKNOWN


def test_unchanged_at_a_digest_that_readers_do_not_have_is_refused_and_changes_nothing() -> None:
    status = running()
    before = status.view(START)

    with pytest.raises(ValueError, match="cannot be unchanged"):
        status.source_unchanged(SOURCE, START, "sha256:" + "00" * 32, TOOK)

    assert status.view(START) == before


def test_a_partition_that_cannot_be_restored_is_the_condition_of_its_sources() -> None:
    status = running()
    error = OutputError(reason="OffsetLost", doing="restoring", cause="the log was cut", remedy="reset the offset")

    status.partition_failed(3, START + SECOND, error)

    view = status.view(START + 2 * SECOND)
    assert (view.sources[0].ready.status, view.sources[0].ready.reason) == (Truth.FALSE, "OffsetLost")
    assert view.sources[0].stalled.status is Truth.TRUE
    assert not view.ready


def test_one_bad_flow_file_is_that_flows_condition_and_does_not_take_the_worker_out_of_service() -> None:
    status = running()
    status.source_unchanged(SOURCE, START, DIGEST, TOOK)
    error = ConfigError(reason="BadYaml", doing="reading bad.yaml", cause="line 3", remedy="fix it")

    status.flow_failed("bad.yaml", START, error)

    view = status.view(START)
    assert list(view.problems()) == ["flow file bad.yaml: BadYaml: reading bad.yaml: line 3 (fix it)"]
    assert status.not_serving(START) == ""


def test_a_worker_is_in_service_once_joined_restored_and_connected_whatever_the_registry_does() -> None:
    status = Status("worker-1", START)
    status.register_source(SOURCE, START, artifact="a/b:c", tag="c", partition=3)
    steps = [status.not_serving(START)]
    status.kafka_answered(START)
    steps.append(status.not_serving(START))
    status.group_joined(START, 1)
    status.partition_state(3, START, PartitionState.RESTORING)
    steps.append(status.not_serving(START))
    status.partition_state(3, START, PartitionState.RUNNING)
    status.source_failed(SOURCE, START, unreachable(), None)
    steps.append(status.not_serving(START))
    status.kafka_failed(START, OutputError(reason="KafkaUnreachable", doing="x", cause="y", remedy="z"))
    steps.append(status.not_serving(START))

    assert steps == [
        "Kafka was not reached yet",
        "the consumer group has not assigned partitions yet",
        "restoring the offsets of partitions [3]",
        "",
        "Kafka is not reachable since 2026-11-24T10:00:00Z",
    ]


def test_a_polling_thread_that_went_silent_is_not_alive() -> None:
    status = running()
    before_any_thread = status.alive(START)
    status.poll_thread_beat(START)

    assert before_any_thread
    assert status.alive(START + timedelta(seconds=60))
    assert not status.alive(START + timedelta(seconds=61))


def test_workers_that_carry_different_flows_are_named_with_what_they_lack() -> None:
    assert describe_difference({"w1": ["a", "b"], "w2": ["b", "a"]}) == ""
    assert describe_difference({}) == ""
    assert describe_difference({"w1": ["a", "b"], "w2": ["b"], "w3": []}) == "w2 lacks a; w3 lacks a, b"


def test_an_idle_sink_is_ready_once_the_topic_was_read_to_its_end() -> None:
    status = Status("worker-1", START)
    status.register_sink(SINK, START, topic="oci.flows")
    before = status.view(START).sinks[0].ready
    status.sink_lag(SINK, START + SECOND, 0)
    after = status.view(START + SECOND).sinks[0].ready

    assert (before.status, before.reason) == (Truth.UNKNOWN, "Waiting")
    assert (after.status, after.reason) == (Truth.TRUE, "CaughtUp")


def test_a_failing_sink_says_what_the_store_still_has() -> None:
    status = Status("worker-1", START)
    status.register_sink(SINK, START, topic="oci.flows")
    status.sink_applied(SINK, START, DIGEST, puts=3, deletes=1, skips=200)

    status.sink_failed(SINK, START + SECOND, LayerError(reason="NotText", doing="a", cause="b", remedy="c"), None)

    sink = status.view(START + SECOND).sinks[0]
    assert (sink.ready.status, sink.ready.reason) == (Truth.FALSE, "NotText")
    assert DIGEST in sink.ready.message
    assert sink.facts.writes == {"put": 3, "delete": 1, "skip": 200}
    assert sink.facts.snapshots == {"applied": 1, "error": 1}


def test_the_view_is_plain_json() -> None:
    status = running()
    status.source_failed(SOURCE, START, unauthorized(), START + INTERVAL)
    status.register_sink(SINK, START, topic="oci.flows")

    shown = json.loads(json.dumps(as_json(status.view(START))))

    assert shown["ready"] is False
    assert shown["sources"][0]["conditions"][0]["reason"] == "Unauthorized"
    assert shown["sources"][0]["next_tick"] == "2026-11-24T10:00:30.000Z"


def test_the_history_of_a_source_does_not_grow_without_end() -> None:
    status = running()

    for _ in range(50):
        status.source_failed(SOURCE, START, unreachable(), None)

    assert len(source(status, START).facts.history) == 10


EVENTS = ("started", "unchanged", "committed", "failed", "cancelled", "pause", "resume", "lost", "restoring",
          "running", "draining", "broken", "nothing", "emptied")  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 50)), max_size=25))
def test_whatever_happens_ready_is_true_only_after_a_success_that_is_recent_and_ours(
    events: list[tuple[str, int]],
) -> None:
    status = running()
    at, state, last, last_end, watched, paused = START, "running", "", START, START, False
    for event, wait in events:
        at += wait * SECOND
        match event:
            case "started":
                status.source_started(SOURCE, at)
            case "cancelled":
                status.source_cancelled(SOURCE, at)
            case "unchanged" | "committed" | "failed":
                if event == "failed":
                    status.source_failed(SOURCE, at, unauthorized(), None)
                elif event == "committed" or source(status, at).facts.delivered is None:
                    status.source_committed(SOURCE, at, DELIVERED, TOOK)
                else:
                    status.source_unchanged(SOURCE, at, DIGEST, TOOK)
                if state != "lost":
                    last, last_end, watched = event, at, at
            case "pause" | "resume":
                paused = event == "pause"
                watched = at
                status.source_paused(SOURCE, at, paused)
            case "emptied":
                last = ""
                status.source_restored(SOURCE, at, None)
            case "lost":
                state, last, paused = "lost", "", False  # what another owner is asked for, only that one knows
                status.partition_lost(3, at)
            case "broken":
                state, watched = "broken", at
                status.partition_failed(3, at, unauthorized())
            case "restoring" | "running" | "draining":
                state, watched = event, at
                status.partition_state(3, at, PartitionState(event))
        one = source(status, at)
        fresh = at - max(last_end, watched) <= 3 * INTERVAL
        expected = state == "running" and last in ("unchanged", "committed") and fresh and not paused
        assert (one.ready.status is Truth.TRUE) == expected, one.ready
        assert one.ready.since <= at
        assert one.ready.status is not Truth.FALSE or not status.view(at).ready
        assert (one.facts.consecutive_failures > 0) <= (one.ready.status is not Truth.TRUE)
        if one.ready.status is not Truth.UNKNOWN or one.owned:
            assert "serving the snapshot of" in one.ready.message or "nothing was delivered" in one.ready.message


def test_a_tick_that_is_tried_again_says_after_what_until_it_ends() -> None:
    status = running()
    status.source_unchanged(SOURCE, START, DIGEST, TOOK)
    status.source_started(SOURCE, START + INTERVAL)
    status.source_retries(SOURCE, START + INTERVAL + SECOND, unreachable(), 3)

    under_way = source(status, START + INTERVAL + 2 * SECOND)
    too_late = source(status, START + 3 * INTERVAL + SECOND)
    status.source_unchanged(SOURCE, START + 4 * INTERVAL, DIGEST, TOOK)
    ended = source(status, START + 4 * INTERVAL + SECOND)

    told = f"attempt 3 follows after: {unreachable()}"
    assert under_way.ready.status is Truth.TRUE
    assert told in under_way.reconciling.message
    assert told in too_late.ready.message
    assert told not in ended.ready.message + ended.reconciling.message
