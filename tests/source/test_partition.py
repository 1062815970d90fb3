"""One owned partition with two sources: what they share, and what is each one's own. Kafka is in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from connector.errors import OutputError, RegistryError
from connector.kafka.changelog import Restored
from connector.kafka.membership import Event, State
from connector.kafka.record import Record
from connector.kafka.transaction import Committed
from connector.records.request import Request, RequestKind, request_record
from connector.records.source_offset import SourceOffset, offset_key, read_offset
from connector.source.outcome import Unchanged
from connector.source.partition import OwnedPartition, now
from connector.source.restore import Restorer
from connector.source.source import Source
from connector.source.surroundings import ScheduledSource, Surroundings
from connector.source.tasks.generate import Schedule
from connector.source.tasks.oci_sync import Output
from connector.status import Status
from connector.telemetry import Telemetry
from tests.source.test_release import SOURCE

OFFSETS = SOURCE.offsets_topic
DIGEST = "sha256:" + "a" * 64
A = replace(SOURCE, name="a", topic="oci.a", offset_key=offset_key("f", SOURCE.artifact))
B = replace(SOURCE, flow="g", name="b", topic="oci.b", offset_key=offset_key("g", SOURCE.artifact))
SELDOM = Schedule(timedelta(hours=1), timedelta(0))
SOON = Schedule(timedelta(milliseconds=1), timedelta(0))

Look = Callable[[SourceOffset | None, Output], Awaitable[Unchanged]]


class Topic:
    """The offsets topic of one partition, and empty topics beside it."""

    def __init__(self) -> None:
        self.records: dict[bytes, Record] = {}
        self.gone: set[str] = set()
        self.while_read: Callable[[], None] = lambda: None

    async def read(self, topic: str, partitions: Sequence[int], keep: Callable[[Record], Any]) -> dict[int, Any]:
        entries = {key: keep(record) for key, record in self.records.items()} if topic == OFFSETS else {}
        self.while_read()
        return {number: Restored(0, entries) for number in partitions}

    async def is_empty(self, topic: str, partition: int) -> bool:
        return True


@dataclass
class Writer:
    """Writes into the topic, and keeps at most one producer ready, as Transactions does."""

    topic: Topic
    made: int = 0
    thrown_away: int = 0
    is_ready: bool = False
    in_doubt: bool = False

    def restored(self) -> None:
        pass

    async def initialise(self, limits: Mapping[str, int | None]) -> None:
        if not self.is_ready:
            self.is_ready = True
            self.made += 1

    async def end_hanging(self, places: Sequence[tuple[str, int]], limits: Mapping[str, int | None]) -> None:
        pass

    async def discard(self) -> None:
        if self.is_ready:
            self.is_ready = False
            self.thrown_away += 1

    async def commit(
        self, records: Iterable[Record], offset: Record, position: int, limits: Mapping[str, int | None]
    ) -> Committed:
        await self.initialise(limits)
        self.is_ready = False
        for record in (*records, offset):
            if record.value is None:
                self.topic.records.pop(record.key, None)
            else:
                self.topic.records[record.key] = record
        return Committed(1, 1, 0.0)


@dataclass
class Ticker:
    """A tick that does what the test says."""

    source: Source
    look: Look
    schedule: Schedule = SELDOM

    async def tick(
        self, previous: SourceOffset | None, known_paths: Mapping[str, str], output: Output, *, force: bool = False
    ) -> Unchanged:
        return await self.look(previous, output)


@dataclass
class Scene:
    topic: Topic
    writer: Writer
    partition: OwnedPartition
    asked: list[frozenset[str]]
    status: Status
    telemetry: Telemetry
    task: "asyncio.Task[None]"


@asynccontextmanager
async def running(*tickers: Ticker, topic: Topic | None = None) -> AsyncIterator[Scene]:
    """The partition, while its task runs."""
    asked: list[frozenset[str]] = []

    topic = topic or Topic()
    there = topic

    async def limits(names: Collection[str]) -> Mapping[str, int | None]:
        asked.append(frozenset(names))
        return dict.fromkeys(set(names) - there.gone)

    changelog: Any = topic
    status, telemetry = Status("w", now()), Telemetry()
    around = Surroundings(
        status=status, telemetry=telemetry, restorer=Restorer(changelog, OFFSETS), limits=limits,
        offsets_topic=OFFSETS, restoring=asyncio.Semaphore(1), once=False, failures={},
    )  # fmt: skip
    made: list[Any] = list(tickers)
    sources = tuple(ScheduledSource(ticker, ticker.schedule) for ticker in made)
    for one in sources:
        status.register_source(one.id, now(), artifact=one.source.artifact, tag=None, partition=0)
    writer = Writer(topic)
    partition = OwnedPartition(0, sources, writer, around)
    partition.happened(Event.ASSIGNED)
    async with asyncio.timeout(5):
        task = asyncio.create_task(partition.run())
        try:
            yield Scene(topic, writer, partition, asked, status, telemetry, task)
        finally:
            task.cancel()
            await asyncio.wait([task])


def requested(kind: RequestKind, source: Source) -> Record:
    request = Request(kind, source.flow, source.artifact, id="r", at=1, by="somebody", digest=DIGEST)
    return request_record(OFFSETS, 1, request)


def refused() -> RegistryError:
    return RegistryError(reason="NotFound", doing="resolving", cause="404", remedy="push it")


async def nothing(previous: SourceOffset | None, output: Output) -> Unchanged:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_tick_that_ends_leaves_its_sibling_the_producer_that_is_ready() -> None:
    looks = 0
    prepared, short_ended, committed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def long(previous: SourceOffset | None, output: Output) -> Unchanged:
        await output.prepare()
        prepared.set()
        await short_ended.wait()
        await output.commit((), Record(OFFSETS, 0, A.offset_key, None))
        committed.set()
        return await nothing(previous, output)

    async def short(previous: SourceOffset | None, output: Output) -> Unchanged:
        nonlocal looks
        looks += 1
        if looks == 1:
            await prepared.wait()
            raise refused()
        short_ended.set()  # the first look is over, with all that follows it
        return await nothing(previous, output)

    async with running(Ticker(A, long), Ticker(B, short, SOON)) as scene:
        await committed.wait()

        assert (scene.writer.made, scene.writer.thrown_away) == (1, 0)


async def test_the_last_source_at_work_throws_a_producer_away_that_nobody_used() -> None:
    looks, again = 0, asyncio.Event()

    async def fails(previous: SourceOffset | None, output: Output) -> Unchanged:
        await output.prepare()
        raise refused()

    async def fails_and_looks_again(previous: SourceOffset | None, output: Output) -> Unchanged:
        nonlocal looks
        looks += 1
        if looks == 1:
            return await fails(previous, output)
        again.set()
        return await nothing(previous, output)

    async with running(Ticker(A, fails), Ticker(B, fails_and_looks_again, SOON)) as scene:
        await again.wait()

        assert not scene.writer.is_ready
        assert scene.writer.made == scene.writer.thrown_away


async def test_only_the_topics_of_a_partitions_own_sources_are_asked_about() -> None:
    looked = asyncio.Event()

    async def look(previous: SourceOffset | None, output: Output) -> Unchanged:
        looked.set()
        return await nothing(previous, output)

    async with running(Ticker(A, look)) as scene:
        await looked.wait()

        assert scene.asked == [{OFFSETS, A.topic}]


async def test_a_digest_that_is_set_before_the_first_pull_counts_for_the_next_tick() -> None:
    looked: list[SourceOffset | None] = []
    done = asyncio.Event()

    async def look(previous: SourceOffset | None, output: Output) -> Unchanged:
        looked.append(previous)
        done.set()
        return await nothing(previous, output)

    topic = Topic()
    record = requested(RequestKind.SET, A)
    topic.records[record.key] = record
    async with running(Ticker(A, look), topic=topic):
        await done.wait()

    written = topic.records[A.offset_key]
    assert [offset.settings for offset in looked if offset is not None] == [A.settings]
    assert read_offset(written.key, written.value or b"").settings == A.settings
    assert record.key not in topic.records


async def test_a_partition_that_is_revoked_while_a_fence_ends_its_ticks_ends_without_an_error() -> None:
    """The fence cancels the sibling, which takes its time; the task group then swallows the revocation's cancelling."""
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def fenced(previous: SourceOffset | None, output: Output) -> Unchanged:
        raise OutputError(reason="Fenced", doing="committing", cause="another owner", remedy="none")

    async def slow(previous: SourceOffset | None, output: Output) -> Unchanged:
        try:
            return await nothing(previous, output)
        finally:
            ending.set()
            await may_end.wait()

    async with running(Ticker(A, fenced), Ticker(B, slow)) as scene:
        await ending.wait()
        scene.partition.happened(Event.REVOKED)
        scene.task.cancel()
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.wait([scene.task])

        assert scene.task.cancelled() or scene.task.exception() is None
        assert scene.partition.state is State.DRAINING


@pytest.mark.parametrize("is_paused_before", [False, True])
async def test_a_pause_or_its_end_that_comes_while_the_topic_is_read_counts(is_paused_before: bool) -> None:
    ticked = asyncio.Event()

    async def look(previous: SourceOffset | None, output: Output) -> Unchanged:
        ticked.set()
        return await nothing(previous, output)

    pause = requested(RequestKind.PAUSE, A)
    topic = Topic()
    if is_paused_before:
        topic.records[pause.key] = pause
    news = replace(pause, value=None) if is_paused_before else pause
    async with running(Ticker(A, look), topic=topic) as scene:
        topic.while_read = lambda: scene.partition.noticed(news)
        if is_paused_before:
            await ticked.wait()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await ticked.wait()
            assert scene.partition.state is State.RUNNING


async def test_of_a_reset_and_a_set_the_one_that_was_asked_last_counts() -> None:
    looked: list[SourceOffset | None] = []
    done = asyncio.Event()

    async def look(previous: SourceOffset | None, output: Output) -> Unchanged:
        looked.append(previous)
        done.set()
        return await nothing(previous, output)

    topic = Topic()
    for kind, at in ((RequestKind.SET, 1), (RequestKind.RESET, 2)):
        record = request_record(
            OFFSETS, 1, Request(kind, A.flow, A.artifact, id=kind.value, at=at, by="x", digest=DIGEST)
        )
        topic.records[record.key] = record
    async with running(Ticker(A, look), topic=topic):
        await done.wait()

    assert looked == [None]
    assert A.offset_key not in topic.records


async def test_a_trigger_that_comes_during_the_tick_of_another_is_not_answered_by_it() -> None:
    looks, second, may_end = 0, asyncio.Event(), asyncio.Event()

    async def look(previous: SourceOffset | None, output: Output) -> Unchanged:
        nonlocal looks
        looks += 1
        if looks == 1:
            scene.partition.noticed(newer)
            topic.records[newer.key] = newer
        else:
            second.set()
            await may_end.wait()
        raise refused()

    older, newer = (
        request_record(OFFSETS, 1, Request(RequestKind.TRIGGER, A.flow, A.artifact, id=id_, at=1, by="x"))
        for id_ in ("older", "newer")
    )
    topic = Topic()
    topic.records[older.key] = older
    async with running(Ticker(A, look), topic=topic) as scene:
        await second.wait()
        assert topic.records[newer.key] == newer
        may_end.set()
        while newer.key in topic.records:  # noqa: ASYNC110  the fence's time-out bounds it
            await asyncio.sleep(0.01)


async def test_a_topic_that_is_gone_stops_its_own_source_alone_until_it_is_back() -> None:
    looks: list[str] = []
    a_looked, b_prepared = asyncio.Event(), asyncio.Event()

    async def a(previous: SourceOffset | None, output: Output) -> Unchanged:
        looks.append("a")
        a_looked.set()
        return await nothing(previous, output)

    async def b(previous: SourceOffset | None, output: Output) -> Unchanged:
        await output.prepare()
        b_prepared.set()
        return await nothing(previous, output)

    topic = Topic()
    topic.gone.add(A.topic)
    async with running(Ticker(A, a), Ticker(B, b), topic=topic) as scene:
        await b_prepared.wait()
        (of_a,) = [one for one in scene.status.view(now()).sources if one.facts.id.source == "a"]
        assert of_a.facts.problem is not None
        assert of_a.facts.problem.reason == "TopicMissing"
        assert looks == []

        topic.gone.clear()
        await a_looked.wait()


async def test_a_tick_whose_topic_goes_sends_nothing_that_would_make_it_anew() -> None:
    told: list[OutputError] = []
    failed = asyncio.Event()

    async def look(previous: SourceOffset | None, output: Output) -> Unchanged:
        topic.gone.add(A.topic)
        try:
            await output.prepare()
        except OutputError as error:
            told.append(error)
            failed.set()
            raise
        raise AssertionError

    topic = Topic()
    async with running(Ticker(A, look), topic=topic) as scene:
        made = scene.writer.made
        await failed.wait()
        assert scene.writer.made <= made + 1  # that of the restore

    assert [error.reason for error in told] == ["TopicMissing"]
