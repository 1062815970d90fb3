"""A worker as a member of a group; a single run ends, whatever the group gives it. Kafka is in memory."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from msgspec.structs import replace

from connector.errors import OutputError
from connector.kafka.topics import Topic as TopicFound
from connector.records.source_offset import SourceOffset
from connector.source.group import Group
from connector.source.outcome import Unchanged
from connector.source.partition import now
from connector.source.surroundings import ScheduledSource
from connector.source.tasks.oci_sync import Output
from connector.source.worker import Worker
from connector.status import SourceId, Status
from connector.telemetry import Telemetry
from tests.fakes.consumer import Clients, Consumer, Message, Turn
from tests.source.test_partition import OFFSETS, SELDOM, A, Look, Ticker, Topic, nothing, refused

ELSEWHERE = replace(A, name="elsewhere", flow="h", offset_key=b"h", offset_partition=1)


class Topics:
    """All topics are there."""

    async def describe(self, names: Sequence[str]) -> dict[str, TopicFound]:
        return {name: TopicFound(name, 1, None) for name in names}


async def fails(previous: SourceOffset | None, output: Output) -> Unchanged:
    raise refused()


def single_run(*turns: Turn, join_seconds: float = 5.0, elsewhere: Look = fails, once: bool = True) -> Worker:
    """A worker of two sources, in partitions 0 and 1, whose ticks fail if they end; `turns` is what the group does."""
    clients: Any = Clients(Consumer(*turns))
    topics: Any = Topics()
    changelog: Any = Topic()
    tickers: list[Any] = [Ticker(A, fails), Ticker(ELSEWHERE, elsewhere)]
    return Worker(
        [ScheduledSource(ticker, SELDOM) for ticker in tickers], clients, topics, changelog,
        Group("g", OFFSETS, is_fenced=False), Status("w", now()), Telemetry(), once=once, join_seconds=join_seconds,
    )  # fmt: skip


async def told(worker: Worker) -> OutputError:
    """The one error that ends the run."""
    with pytest.raises((OutputError, ExceptionGroup)) as caught:
        async with asyncio.timeout(5):
            await worker.run(asyncio.Event())
    error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert isinstance(error, OutputError)
    return error


def none() -> frozenset[int]:
    return frozenset()


@pytest.mark.parametrize("first", [none(), frozenset([3])], ids=["no partition", "a partition without sources"])
async def test_a_single_run_waits_for_the_partitions_of_its_sources(
    first: frozenset[int], caplog: pytest.LogCaptureFixture
) -> None:
    worker = single_run(first, frozenset([0, 3]))

    async with asyncio.timeout(5):
        failures = await worker.run(asyncio.Event())

    assert set(failures) == {SourceId(A.flow, A.name)}
    assert "other members of the group tick 1 sources, which were not ticked here: h/elsewhere" in caplog.text


async def test_a_single_run_that_others_leave_nothing_to_fails_and_says_so() -> None:
    worker = single_run(none(), join_seconds=0.1)

    error = await told(worker)

    assert error.reason == "GroupInUse"


async def test_a_single_run_that_is_told_to_stop_does_not_wait_for_the_group() -> None:
    stop = asyncio.Event()
    worker = single_run()
    asyncio.get_running_loop().call_later(0.05, stop.set)

    async with asyncio.timeout(2):
        failures = await worker.run(stop)

    assert failures == {}


async def test_a_single_run_whose_membership_ends_does_not_wait_for_the_group() -> None:
    worker = single_run(KafkaException(KafkaError(KafkaError._STATE)))

    error = await told(worker)

    assert error.reason == "KafkaRefused"


async def test_a_single_run_that_loses_what_it_has_not_ticked_yet_ends_with_what_it_has() -> None:
    first_ended = threading.Event()

    async def late(previous: SourceOffset | None, output: Output) -> Unchanged:
        first = next(task for task in asyncio.all_tasks() if task.get_name() == "partition-0")
        await asyncio.wait([first])
        first_ended.set()
        return await nothing(previous, output)

    worker = single_run(frozenset([0, 1]), lambda: wait_for(first_ended), none(), elsewhere=late)

    async with asyncio.timeout(5):
        failures = await worker.run(asyncio.Event())

    assert set(failures) == {SourceId(A.flow, A.name)}


def wait_for(event: threading.Event) -> None:
    assert event.wait(5)


async def test_a_refusal_by_the_group_is_told_once_though_the_brokers_answer(caplog: pytest.LogCaptureFixture) -> None:
    refusal = Message(KafkaError(KafkaError.INVALID_SESSION_TIMEOUT))
    asked, again, stop = threading.Event(), threading.Event(), asyncio.Event()
    worker = single_run(refusal, lambda: wait_for(asked), refusal, again.set, once=False)
    loop = asyncio.get_running_loop()

    async with asyncio.timeout(5):
        running = asyncio.create_task(worker.run(stop))
        loop.call_later(0.1, asked.set)  # far longer than the worker takes to ask the brokers
        await asyncio.to_thread(wait_for, again)
        stop.set()
        await running

    told = [record.levelname for record in caplog.records if "Invalid session" in record.getMessage()]
    assert told == ["ERROR"]
    assert "answers again" not in caplog.text
