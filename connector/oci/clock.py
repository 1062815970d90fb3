"""Time as the registry client sees it, so that tests can move it: `tests/fakes/clock.py` is the other one."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the client needs to know of time."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def now(self) -> datetime:
        """The time of day, in UTC; only for the dates that servers send."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


class SystemClock:
    """The machine's own."""

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Sleep in the event loop."""
        await asyncio.sleep(seconds)
