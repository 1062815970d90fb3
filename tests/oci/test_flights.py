"""Requests shared by those who ask at the same moment."""

import asyncio

import pytest

from connector.oci.flights import Flights
from tests.fakes.clock import FakeClock


async def test_who_asks_while_it_is_under_way_gets_the_same_answer() -> None:
    flights: Flights[int] = Flights(FakeClock())
    calls: list[int] = []
    gate = asyncio.Event()

    async def fetch() -> int:
        calls.append(1)
        await gate.wait()
        return 7

    asking = asyncio.gather(*(flights.share("key", fetch) for _ in range(5)), flights.share("other", fetch))
    await asyncio.sleep(0)
    gate.set()

    assert await asking == [7] * 6
    assert len(calls) == 2


async def test_who_asks_a_moment_later_shares_and_who_asks_after_that_does_not(clock: FakeClock) -> None:
    flights: Flights[float] = Flights(clock)

    async def fetch() -> float:
        return clock.monotonic()

    assert await flights.share("key", fetch) == 0
    clock.advance(0.01)
    assert await flights.share("key", fetch) == 0
    clock.advance(0.011)
    assert await flights.share("key", fetch) == pytest.approx(0.021)


async def test_when_the_one_that_asks_is_cancelled_another_takes_over() -> None:
    flights: Flights[str] = Flights(FakeClock())
    started, gate = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        started.set()
        await gate.wait()
        return "slow"

    async def quick() -> str:
        return "quick"

    first = asyncio.ensure_future(flights.share("key", slow))
    await started.wait()
    second = asyncio.ensure_future(flights.share("key", quick))
    await asyncio.sleep(0)
    first.cancel()

    assert await second == "quick"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_who_waits_may_be_cancelled_alone() -> None:
    flights: Flights[str] = Flights(FakeClock())
    gate = asyncio.Event()

    async def fetch() -> str:
        await gate.wait()
        return "done"

    first = asyncio.ensure_future(flights.share("key", fetch))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(flights.share("key", fetch))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()

    assert await first == "done"


async def test_when_all_are_cancelled_at_once_none_goes_on() -> None:
    flights: Flights[str] = Flights(FakeClock())
    calls: list[int] = []

    async def stalled() -> str:
        calls.append(1)
        await asyncio.Event().wait()
        return "never"

    asking = [asyncio.ensure_future(flights.share("key", stalled)) for _ in range(5)]
    await asyncio.sleep(0)
    for one in asking:
        one.cancel()
    _, pending = await asyncio.wait(asking, timeout=1)

    assert not pending
    assert all(one.cancelled() for one in asking)
    assert len(calls) == 1


async def test_who_waits_longer_than_it_may_is_told_so_though_the_one_that_asks_ends_too() -> None:
    flights: Flights[str] = Flights(FakeClock())

    async def stalled() -> str:
        await asyncio.Event().wait()
        return "never"

    async def ask() -> str:
        async with asyncio.timeout(0.01):
            return await flights.share("key", stalled)

    results = await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(3)), return_exceptions=True), 2)

    assert [type(result) for result in results] == [TimeoutError] * 3


async def test_an_error_is_shared_and_not_remembered() -> None:
    flights: Flights[str] = Flights(FakeClock())

    async def fail() -> str:
        await asyncio.sleep(0)
        raise LookupError("no")

    results = await asyncio.gather(*(flights.share("key", fail) for _ in range(3)), return_exceptions=True)

    assert [type(result) for result in results] == [LookupError] * 3

    async def fetch() -> str:
        return "fine"

    assert await flights.share("key", fetch) == "fine"
