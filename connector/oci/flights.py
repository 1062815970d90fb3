"""Requests that several sources would make at the same moment, made once.

Sources of one generate tick ask for the same digest within milliseconds. The first asks, the others get its answer:
while it is under way, and for a moment after, too short for anyone who moved a tag to be shown the old one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from enum import Enum, auto
from typing import Generic, TypeVar

from connector.oci.clock import Clock

Answer = TypeVar("Answer")

_MOMENT_SECONDS = 0.02


class _GivenUp(Enum):
    """What those that wait find where the one that fetched was cancelled."""

    GIVEN_UP = auto()


class Flights(Generic[Answer]):
    """Answers by key, each shared while it is fetched and for `moment_seconds` after."""

    def __init__(self, clock: Clock, moment_seconds: float = _MOMENT_SECONDS) -> None:
        self._clock = clock
        self._moment_seconds = moment_seconds
        self._flights: dict[Hashable, asyncio.Future[Answer | _GivenUp]] = {}
        self._landed: dict[Hashable, tuple[float, Answer]] = {}

    async def share(self, key: Hashable, fetch: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of `fetch`, or of another's that is under way or has just landed. An error is shared likewise.

        Where the one that fetches is cancelled, one of those that wait takes over. A flight itself is never cancelled,
        so a CancelledError is always the caller's own: a tick's deadline or a revoke.
        """
        while True:
            landed = self._recent(key)
            if landed is not None:
                return landed[1]
            flight = self._flights.get(key)
            if flight is None:
                return await self._fly(key, fetch)
            answer = await asyncio.shield(flight)
            if not isinstance(answer, _GivenUp):
                return answer

    def forget(self, key: Hashable) -> None:
        """Let nobody be given the answer that has landed: it is known to be old."""
        self._landed.pop(key, None)

    async def _fly(self, key: Hashable, fetch: Callable[[], Awaitable[Answer]]) -> Answer:
        flight: asyncio.Future[Answer | _GivenUp] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        try:
            answer = await fetch()
        except asyncio.CancelledError:
            flight.set_result(_GivenUp.GIVEN_UP)
            raise
        except BaseException as error:
            flight.set_exception(error)
            flight.exception()  # seen: nobody may be waiting
            raise
        finally:
            del self._flights[key]
        flight.set_result(answer)
        self._landed[key] = (self._clock.monotonic() + self._moment_seconds, answer)
        return answer

    def _recent(self, key: Hashable) -> tuple[float, Answer] | None:
        now = self._clock.monotonic()
        for old in [known for known, (until, _) in self._landed.items() if now >= until]:
            del self._landed[old]
        return self._landed.get(key)
