"""A bar for each pull under way, on a terminal and nowhere else; gone when the pull has ended."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

Advance = Callable[[int], None]


class PullProgress:
    """One display for all pulls of the process. `is_shown` is whether standard error is a terminal."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        self._bars: Progress | None = None
        self._running = 0

    @contextmanager
    def pulling(self, artifact: str, total_bytes: int) -> Iterator[Advance]:
        """Call what it yields with the bytes that came, negative when some are thrown away."""
        if not self.is_shown:
            yield _ignore
            return
        bars = self._started()
        task = bars.add_task(artifact, total=total_bytes)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            bars.remove_task(task)
            self._running -= 1
            if self._running == 0:
                bars.stop()
                self._bars = None

    def _started(self) -> "Progress":
        self._running += 1
        if self._bars is None:
            from rich.console import Console  # here, for it costs 0.1 s that only a terminal should pay
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self._bars


def _ignore(_count: int) -> None:
    return
