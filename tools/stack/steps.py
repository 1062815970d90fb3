"""Progress for a person: one line when a step starts, one a quarter of a minute while it lasts, one when it ends."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

from tools.stack.problem import StackError, ToolMissing

_STILL_SECONDS = 15.0  # often enough that nobody thinks it hangs, seldom enough for a CI log
_TAIL_LINES = 25
_printing = Lock()  # steps run side by side; their lines must not mix
_began = time.monotonic()


def say(text: str) -> None:
    """Print one line with the seconds since the program began."""
    with _printing:
        print(f"[{time.monotonic() - _began:6.1f}s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say that `text` begins, goes on, and is done or has failed; why it failed, the error will say."""
    say(f"{text} ...")
    start, over = time.monotonic(), Event()

    def remind() -> None:
        while not over.wait(_STILL_SECONDS):
            say(f"{text} ... still at it after {time.monotonic() - start:.0f} s")

    reminder = Thread(target=remind, daemon=True)
    reminder.start()
    result = "failed after"
    try:
        yield
        result = "done in"
    finally:
        over.set()
        reminder.join()
        say(f"{text}: {result} {time.monotonic() - start:.1f} s")


def run(
    doing: str,
    command: Sequence[str | Path],
    *,
    remedy: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 1800,
) -> str:
    """Return what `command` printed, both streams as one. Raises StackError with the tail of that when it fails."""
    words = [str(word) for word in command]
    try:
        ended = subprocess.run(
            words,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError:
        raise ToolMissing(doing, f"{words[0]} is not on this machine", remedy) from None
    except subprocess.TimeoutExpired as expired:
        raise StackError(
            doing, f"{words[0]} did not end in {timeout_seconds:.0f} s", remedy, tail(expired.output or b"")
        ) from None
    if ended.returncode != 0:
        raise StackError(doing, f"{words[0]} ended with code {ended.returncode}", remedy, tail(ended.stdout))
    return ended.stdout.decode("utf-8", "replace")


def tail(output: bytes) -> str:
    """The last lines of a tool's output, as text."""
    return "\n".join(output.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:])
