"""The sink half at work, with a log and a store in memory."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.errors import OutputError, SinkError
from connector.kafka.assignment import Assigned, Polled
from connector.records.file_record import FileRecord
from connector.records.formats import Encoded
from connector.records.formats.raw import RawFormat
from connector.sink.chain import Chain, DiffChain
from connector.sink.line import Line
from connector.sink.parts import Parts
from connector.sink.pipeline import Pipeline
from connector.sink.tasks import diff
from connector.sink.tasks.buffer import Snapshots
from connector.status import Status, as_json
from tests.fakes.clock import FakeClock
from tests.sink.memory_store import ARTIFACT, TOPIC, MemoryFeed, MemoryStore, pull

OTHER = "registry.example.com/org/other:prod"


class Sink:
    """One flow with one diff, its log, its store, its status."""

    def __init__(
        self,
        feed: MemoryFeed,
        store: MemoryStore,
        artifacts: tuple[str, ...] = (ARTIFACT,),
        clock: FakeClock | None = None,
    ) -> None:
        self.feed, self.store, self.clock = feed, store, clock or FakeClock()
        fields = diff.Fields.model_validate(
            {"name": "d", "owns": ["k."], "routes": [{"match": ".", "key": "k.{{ path }}"}]}
        )
        chain: Chain = DiffChain("save", diff.build(fields, Parts("f")), store)
        self.line = Line(chain, Snapshots(max_files=50), frozenset(artifacts))
        self.status = Status("w", self.clock.now())
        self.pipeline = Pipeline("f", [self.line], feed, (TOPIC,), self.status, self.clock)

    async def go(self, turns: int = 3) -> None:
        for _ in range(turns):
            await self.pipeline.follow()
            await self.pipeline.work(self.line)
        await self.pipeline.follow()

    def lag(self) -> int:
        (sink,) = self.status.view(self.clock.now()).sinks
        return sink.facts.lag_records or 0

    def ready(self) -> tuple[str, str]:
        view: Any = as_json(self.status.view(self.clock.now()))
        (sink,) = view["sinks"]
        (condition,) = [c for c in sink["conditions"] if c["type"] == "Ready"]
        return condition["status"], condition["reason"]


class _Unreadable:
    """Values that no format reads, under headers that say whose they are."""

    schema: str | None = None

    def encode(self, file: FileRecord, schema_id: int = 0) -> Encoded:
        return Encoded(b"{neither", ())


def _started(store: MemoryStore | None = None, *pulls: list[FileRecord], committed: int = -1) -> Sink:
    feed = MemoryFeed(committed=committed)
    for files in pulls:
        feed.write(files)
    feed.assign()
    return Sink(feed, store or MemoryStore())


async def test_a_failure_is_logged_three_times_and_another_one_behind_it_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    sink.store.is_down = True
    for _ in range(8):
        await sink.go(1)
        sink.clock.advance(100)
    assert sink.line.failures == 8
    down = [record.message for record in caplog.records if record.levelno >= logging.ERROR]

    def refuse(key: str) -> None:
        raise SinkError(reason="StoreRefused", doing="writing", cause="no room", remedy="make some")

    sink.store.is_down, sink.store.before_write = False, refuse
    for _ in range(3):
        await sink.go(1)
        sink.clock.advance(100)

    told = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(down) == 3
    assert ["no room" in message for message in told[3:]] == [True]


async def test_a_release_is_put_changed_and_removed() -> None:
    sink = _started(None, pull("1", {"a": "1", "b": "2"}))
    await sink.go()
    assert sink.store.plain() == {"k.a": b"1", "k.b": b"2"}

    sink.feed.write(pull("2", {"a": "3", "c": "4"}, removed=["b"]))
    await sink.go()

    assert sink.store.plain() == {"k.a": b"3", "k.c": b"4"}
    assert sink.ready() == ("True", "Applied")


async def test_half_a_pull_changes_nothing_however_long_it_takes() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    sink.feed.write(pull("2", {"a": "2", "b": "2"})[:1])
    await sink.go()
    sink.clock.advance(3600)
    await sink.go()

    assert sink.store.plain() == {"k.a": b"1"}
    assert sink.ready() == ("False", "SnapshotIncomplete")


async def test_the_offset_is_committed_after_the_apply_and_not_into_a_pull_that_is_open() -> None:
    sink = _started(None, pull("1", {"a": "1", "b": "1"}))
    await sink.pipeline.follow()
    assert sink.feed.commits == []

    await sink.pipeline.work(sink.line)
    sink.feed.write(pull("2", {"a": "2", "b": "2"})[:1])
    await sink.pipeline.follow()

    assert sink.feed.commits == [2]


async def test_a_start_without_a_change_writes_nothing_and_commits_nothing_lower() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    again = _started(sink.store, pull("1", {"a": "1"}), committed=1)
    writes = list(sink.store.writes)

    await again.go()

    assert again.store.writes == writes
    assert again.feed.commits == []
    assert again.ready() == ("True", "Applied")


async def test_a_start_repairs_what_was_changed_while_nobody_ran() -> None:
    sink = _started(None, pull("1", {"a": "1", "b": "2"}))
    await sink.go()
    sink.store.set("k.a", b"by hand")
    del sink.store.values["k.b"]
    sink.store.set("k.extra", b"by hand")
    sink.store.set("others.x", b"not ours")

    await _started(sink.store, pull("1", {"a": "1", "b": "2"}), committed=2).go()

    assert sink.store.plain() == {"k.a": b"1", "k.b": b"2", "others.x": b"not ours"}


async def test_a_late_start_never_shows_an_old_release() -> None:
    sink = _started(None, pull("1", {"a": "old"}), pull("2", {"a": "older"}), pull("3", {"a": "new"}))

    await sink.go()

    assert sink.store.writes == [("put", "k.a")]
    assert sink.store.plain() == {"k.a": b"new"}


async def test_a_store_that_is_down_loses_nothing_and_is_written_once_when_it_returns() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    sink.store.is_down = True
    await sink.go()
    assert sink.ready() == ("False", "StoreUnreachable")
    assert sink.feed.commits == []
    sink.feed.write(pull("2", {"a": "2"}))
    await sink.go()
    assert max(sink.feed.commits) <= 1  # where the release that is owed begins

    sink.store.is_down = False
    sink.clock.advance(120)
    await sink.go()

    assert sink.store.writes == [("put", "k.a")]
    assert sink.store.plain() == {"k.a": b"2"}
    assert sink.feed.commits[-1] == 2


async def test_a_key_deleted_by_hand_comes_back_at_the_next_check_and_a_changed_one_at_the_next_reconcile() -> None:
    sink = _started(None, pull("1", {"a": "1", "b": "2"}))
    await sink.go()
    del sink.store.values["k.a"]
    sink.clock.advance(31)
    await sink.go()
    assert sink.store.plain() == {"k.a": b"1", "k.b": b"2"}

    sink.store.set("k.b", b"by hand")
    sink.clock.advance(31)
    await sink.go()
    assert sink.store.plain()["k.b"] == b"by hand"
    sink.clock.advance(601)
    await sink.go()

    assert sink.store.plain()["k.b"] == b"2"


async def test_a_check_that_finds_everything_in_place_costs_one_list() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    sink.store.lists.clear()
    sink.clock.advance(31)

    await sink.go()

    assert sink.store.lists == ["k."]


async def test_a_record_that_nobody_can_read_stops_nothing() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    sink.feed.append(b"junk", b"junk", ())
    await sink.go()
    sink.feed.write(pull("2", {"a": "2"}))
    await sink.go()

    assert sink.store.plain() == {"k.a": b"2"}


async def test_each_record_is_read_in_the_format_it_was_written_in() -> None:
    """A flow's format was changed, and the newest whole snapshot is still in the old one."""
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    assert sink.store.plain() == {"k.a": b"1"}

    sink.feed.write(pull("2", {"a": "2"}), RawFormat())
    await sink.go()

    assert sink.store.plain() == {"k.a": b"2"}


async def test_a_pull_with_a_record_that_nobody_can_read_is_told_of_and_read_again_by_a_restart() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    broken, *rest = pull("2", {"a": "2", "b": "2"})
    sink.feed.write([broken], _Unreadable())
    sink.feed.write(rest)
    await sink.go()

    assert sink.ready() == ("False", "RecordInvalid")
    assert sink.store.plain() == {"k.a": b"1"}
    assert sink.feed.committed == 1
    assert sink.lag() == 2

    sink.feed.write(pull("3", {"a": "3"}))
    await sink.go()

    assert sink.ready() == ("True", "Applied")
    assert sink.feed.committed == 4


async def test_once_fails_where_nothing_of_the_newest_release_can_be_read() -> None:
    feed = MemoryFeed()
    feed.write(pull("1", {"a": "1"}), _Unreadable())
    feed.assign()
    sink = Sink(feed, MemoryStore())

    assert await sink.pipeline.run_once(5)

    assert sink.ready() == ("False", "RecordInvalid")
    assert feed.commits == []


async def test_an_unreadable_record_of_a_release_that_is_over_holds_nothing_up() -> None:
    sink = _started(None, pull("2", {"a": "2"}))
    await sink.go()
    sink.feed.write(pull("1", {"a": "1"}), _Unreadable())
    await sink.go()

    assert sink.ready() == ("True", "Applied")
    assert sink.feed.committed == 2


async def test_a_release_with_a_file_that_is_only_a_reference_is_never_an_empty_value() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    sink.feed.write([replace(file, content=b"", reference_bytes=30_000_000) for file in pull("2", {"a": "2"})])
    await sink.go()

    assert sink.store.plain() == {"k.a": b"1"}
    assert sink.ready() == ("False", "SnapshotIncomplete")
    assert sink.feed.committed == 1


async def test_a_release_that_is_refused_stays_in_the_lag() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    sink.feed.write(pull("2", {f"f{number}": "" for number in range(51)}))
    await sink.go()

    assert sink.feed.committed == 1
    assert sink.lag() == 51


async def test_a_check_that_finds_all_in_place_ends_an_outage_of_the_store() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    sink.clock.advance(31)
    sink.store.is_down = True
    await sink.go(1)
    assert sink.ready() == ("False", "StoreUnreachable")

    sink.store.is_down = False
    sink.clock.advance(31)
    await sink.go(1)

    assert sink.ready()[0] == "True"


async def test_a_worker_with_sinks_alone_is_ready_when_its_topic_was_reached_and_not_while_it_is_not() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    assert "not reached yet" in sink.status.not_serving(sink.clock.now())
    await sink.go()
    assert sink.status.not_serving(sink.clock.now()) == ""


async def test_a_release_that_is_too_large_is_told_of_and_stays_told_until_a_better_one() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    sink.feed.write(pull("2", {f"f{number}": "" for number in range(51)}))
    await sink.go()
    sink.clock.advance(3600)
    await sink.go()
    assert sink.ready() == ("False", "SnapshotTooLarge")
    assert sink.store.plain() == {"k.a": b"1"}

    sink.feed.write(pull("3", {"a": "3"}))
    await sink.go()

    assert sink.ready() == ("True", "Applied")


async def test_nothing_is_deleted_before_every_artifact_of_the_flow_is_known() -> None:
    feed, store = MemoryFeed(), MemoryStore()
    store.set("k.of_the_other", b"1")
    feed.write(pull("1", {"a": "1"}))
    feed.assign()
    sink = Sink(feed, store, (ARTIFACT, OTHER))
    await sink.go()
    assert store.plain() == {"k.a": b"1", "k.of_the_other": b"1"}

    feed.write(pull("2", {"b": "2"}, artifact=OTHER))
    await sink.go()

    assert store.plain() == {"k.a": b"1", "k.b": b"2"}


async def test_records_of_an_artifact_the_flow_does_not_name_are_left_alone() -> None:
    sink = _started(None, pull("1", {"a": "1"}), pull("2", {"b": "2"}, artifact=OTHER))

    await sink.go()

    assert sink.store.plain() == {"k.a": b"1"}


async def test_a_revoked_partition_is_forgotten_and_read_anew_when_it_comes_back() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    sink.feed.revoke()
    await sink.go()
    sink.store.set("k.a", b"by the new owner")
    sink.clock.advance(3600)
    await sink.go()
    assert sink.store.plain() == {"k.a": b"by the new owner"}

    sink.feed.write(pull("2", {"a": "2"}))
    sink.feed.assign()
    await sink.go()

    assert sink.store.plain() == {"k.a": b"2"}


async def test_another_writer_in_the_middle_is_a_conflict_that_the_next_try_settles() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    await sink.go()
    raced: list[str] = []

    def race(key: str) -> None:
        if not raced:
            raced.append(key)
            sink.store.set(key, b"by another writer")

    sink.store.before_write = race
    sink.feed.write(pull("2", {"a": "2"}))
    await sink.go()
    assert sink.ready() == ("False", "StoreConflict")

    sink.clock.advance(5)
    await sink.go()

    assert sink.store.plain() == {"k.a": b"2"}


async def test_once_reads_to_the_end_applies_and_says_whether_anything_failed() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    assert not await sink.pipeline.run_once(5)
    assert (sink.store.plain(), sink.feed.commits) == ({"k.a": b"1"}, [1])

    down = _started(MemoryStore(is_down=True), pull("1", {"a": "1"}))
    assert await down.pipeline.run_once(5)
    assert down.feed.commits == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (pull("1", {f"f{number}": "" for number in range(51)}), "SnapshotTooLarge"),
        (pull("1", {"a": "1", "b": "1"})[:1], "SnapshotIncomplete"),
    ],
)
async def test_once_says_that_a_release_could_not_be_applied(files: list[FileRecord], reason: str) -> None:
    sink = _started(None, files)

    assert await sink.pipeline.run_once(5)

    assert sink.ready() == ("False", reason)
    assert sink.store.writes == []


async def test_a_failure_of_one_artifact_stays_told_when_another_s_release_arrives() -> None:
    feed, store = MemoryFeed(), MemoryStore()
    feed.write(pull("1", {"a": "1"}))
    feed.write(pull("2", {f"f{number}": "" for number in range(51)}))
    feed.write(pull("3", {"b": "3"}, artifact=OTHER))
    feed.assign()
    sink = Sink(feed, store, (ARTIFACT, OTHER))

    await sink.go()

    assert store.plain() == {"k.a": b"1", "k.b": b"3"}
    assert sink.ready() == ("False", "SnapshotTooLarge")


async def test_a_failure_is_forgotten_with_the_partition_it_came_from() -> None:
    sink = _started(None, pull("1", {f"f{number}": "" for number in range(51)}))
    await sink.go()
    assert sink.line.held_up
    sink.feed.revoke()

    await sink.go()

    assert not sink.line.held_up


async def test_a_partition_that_is_not_read_to_its_end_yet_makes_nobody_spin() -> None:
    asked: list[float] = []

    class CountingClock(FakeClock):
        def monotonic(self) -> float:
            asked.append(0.0)
            return super().monotonic()

    feed = MemoryFeed()
    feed.write(pull("1", {"a": "1"}))
    feed.assign()
    feed.changes = [Assigned(TOPIC, 0, len(feed.log) + 1, -1)]
    sink = Sink(feed, MemoryStore(), clock=CountingClock())
    original = feed.poll

    async def poll(limit: int, timeout_seconds: float) -> Polled:
        if feed.position == len(feed.log):
            await asyncio.sleep(3600)
        return await original(limit, timeout_seconds)

    feed.poll = poll  # type: ignore[method-assign]  # the feed is a fake; the end of the partition is late here
    running = asyncio.create_task(sink.pipeline.run(asyncio.Event()))
    for _ in range(1_000):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])

    assert sink.line.owes
    assert len(asked) < 20


async def test_running_works_until_told_to_stop() -> None:
    sink = _started(None, pull("1", {"a": "1"}))
    stop = asyncio.Event()
    original = sink.feed.poll

    async def poll(limit: int, timeout_seconds: float) -> object:
        await asyncio.sleep(0)
        if sink.feed.commits:
            stop.set()
        return await original(limit, timeout_seconds)

    sink.feed.poll = poll  # type: ignore[method-assign, assignment]  # the feed is a fake; it only gives way here
    async with asyncio.timeout(5):
        await sink.pipeline.run(stop)

    assert sink.store.plain() == {"k.a": b"1"}
    assert sink.status.view(sink.clock.now() + timedelta(seconds=1)) is not None


class Killed(BaseException):
    """The process ends here."""


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.integers(1, 6), max_size=6), changed_by_hand=st.booleans())
def test_a_kill_at_any_write_converges_and_writes_no_equal_value(points: list[int], changed_by_hand: bool) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        for key in ("k.old1", "k.old2", "k.same", "k.changed"):
            store.set(key, b"same" if key == "k.same" else b"0")
        files = pull("2", {"same": "same", "changed": "1", "new1": "1", "new2": "1"}, removed=["old1", "old2"])
        wanted = {"k.same": b"same", "k.changed": b"1", "k.new1": b"1", "k.new2": b"1"}
        committed = -1
        for point in points:
            left = [point]

            def die(key: str, left: list[int] = left) -> None:
                left[0] -= 1
                if not left[0]:
                    raise Killed

            store.before_write = die
            sink = _started(store, files, committed=committed)
            try:
                await sink.go()
            except Killed:
                assert sink.feed.commits == []
            committed = sink.feed.committed
        store.before_write = lambda key: None
        if changed_by_hand:
            store.set("k.new1", b"by hand")
        await _started(store, files, committed=committed).go()

        assert store.plain() == wanted
        assert ("put", "k.same") not in store.writes
        assert len(store.writes) == len(set(store.writes)) or changed_by_hand

    asyncio.run(scenario())


@pytest.mark.parametrize("committed", [-1, 1, 2])
async def test_a_restart_between_apply_and_commit_writes_nothing_more(committed: int) -> None:
    store = MemoryStore()
    files = pull("1", {"a": "1", "b": "2"})
    sink = _started(store, files)
    await sink.pipeline.follow()
    await sink.pipeline.work(sink.line)
    writes = list(store.writes)

    await _started(store, files, committed=committed).go()

    assert store.writes == writes


async def test_a_topic_that_cannot_be_read_is_told_once_and_its_return_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = _started(None, pull("1", {"a": "1"}))
    original = sink.feed.poll
    failures = 0

    async def poll(limit: int, timeout_seconds: float) -> Polled:
        nonlocal failures
        await asyncio.sleep(0)
        if sink.line.owes or not sink.store.plain() or failures == 5:
            return await original(limit, timeout_seconds)
        failures += 1
        raise OutputError(reason="KafkaUnreachable", doing="reading", cause=f"attempt {failures}", remedy="look")

    sink.feed.poll = poll  # type: ignore[method-assign]  # the feed is a fake; its brokers go away for a while
    running = asyncio.create_task(sink.pipeline.run(asyncio.Event()))
    shown: set[tuple[str, str]] = set()
    serving: set[str] = set()
    for _ in range(1_000):
        await asyncio.sleep(0)
        shown.add(sink.ready())
        serving.add(sink.status.not_serving(sink.clock.now()))
    running.cancel()
    await asyncio.wait([running])

    assert ("False", "KafkaUnreachable") in shown
    assert any("not reachable" in text for text in serving)
    assert sink.status.not_serving(sink.clock.now()) == ""
    assert sink.ready() == ("True", "Applied")
    messages = [record.message for record in caplog.records]
    assert sum("KafkaUnreachable" in m or "attempt" in m for m in messages) == 1, messages
    assert messages.count("the topic is read again") == 1
