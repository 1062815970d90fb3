"""From the start of the process to the first byte of its first HEAD."""

import socket
import threading
import time
from collections.abc import Iterator
from statistics import median

from bench.flow import BenchFlow
from bench.ground import Ground, MeasuredFailed
from bench.result import Result, spread


class Doorbell:
    """A registry that notes when it was first asked, and knows nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.rang_at: float | None = None
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(1) and self.rang_at is None:
                    self.rang_at = time.monotonic()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def first_head(ground: Ground, runs: int) -> Iterator[Result]:
    """`run --once` with its topics in place; the group is new, the partition empty."""
    seconds: list[float] = []
    for _ in range(runs):
        bell = Doorbell()
        flow = BenchFlow(ground, [f"{bell.host}/bench/start:prod"])
        started = time.monotonic()
        try:
            flow.pull()
        except MeasuredFailed:
            assert bell.rang_at is not None  # a 404, as meant
            seconds.append(bell.rang_at - started)
        bell.close()
    yield Result("start of the process to its first HEAD", median(seconds), "s", 1.0, 0.5, spread(seconds))
