"""A clock that moves when told, for everything that takes a `connector.oci.clock.Clock`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Starts at a fixed moment. `advance` moves it; `sleep` notes how long was asked for and moves it at once.

    `slept` holds the seconds of every sleep, in order, so that a test can say how long something would have waited;
    `when_sleeping` is called in each.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self.slept: list[float] = []
        self.when_sleeping: Callable[[float], None] = lambda seconds: None

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed

    def now(self) -> datetime:
        """The moment it shows, in UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def advance(self, seconds: float) -> None:
        """Move on by that many seconds."""
        self._elapsed += seconds

    async def sleep(self, seconds: float) -> None:
        """Move on without waiting."""
        self.slept.append(seconds)
        self.when_sleeping(seconds)
        self._elapsed += max(0.0, seconds)
