"""A fleet: many sources on three workers, a fourth that joins, and one worker that starts with all of them.

Sources share an artifact of one layer under tags of their own, so that the registry is no part of what is measured;
each has its own source offset, with a path a file. Moments are those of the workers' own log lines.
"""

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.flow import BenchFlow
from bench.ground import Ground, MeasuredFailed, text_files
from bench.result import Result
from tools.stack.pins import ROOT

_PARTITIONS = 64
_FIRST_PULLS_SECONDS = 900.0
_MOVE_SECONDS = 60.0
_TICKED = re.compile(r"(?:unchanged since last pull|committed \d+ files).*?artifact=(\S+)")
_RESTORED = re.compile(r"restored partition.*: (\d+) sources, (\d+) paths")
_ASSIGNED = re.compile(r"assigned \d+ partitions with \d+ sources")


@dataclass(frozen=True, slots=True)
class Logged:
    """A worker whose log is read."""

    process: "subprocess.Popen[bytes]"
    log: Path
    started: float

    def lines(self) -> list[str]:
        """What it said until now."""
        return self.log.read_text().splitlines()


@dataclass(frozen=True, slots=True)
class Restore:
    """What a worker restored after its last assignment; seconds from there, and from the start of the process."""

    sources: int
    paths: int
    seconds: float
    since_start: float


def fleet(ground: Ground, sources: int, files: int) -> Iterator[Result]:
    """First pulls on three workers, the move to a fourth, and a restart of one alone."""
    flow = _flow(ground, sources, files)
    with ExitStack() as ends:
        begun = time.monotonic()
        workers = [_start(flow, ground, ends, number) for number in range(3)]
        _until_all_ticked(workers, sources)
        rate = sources / (time.monotonic() - begun)
        yield Result(f"first pulls of {sources:,} sources of {files} files, three workers", rate, "a second")
        fourth = _start(flow, ground, ends, 3)
        moved = _await_restored(fourth, lambda seen: seen.sources > 0)
        yield Result(
            "a fourth worker: its start to the last partition that moved and is restored", moved.since_start, "s",
            10.0, 5.0, f"{moved.sources:,} sources, {moved.paths:,} paths, {moved.seconds:.2f} s after the assignment",
        )  # fmt: skip
    with ExitStack() as ends:
        alone = _await_restored(_start(flow, ground, ends, 4), lambda seen: seen.sources >= sources)
        yield Result(
            f"a restart that restores {alone.paths:,} paths of offsets", alone.seconds, "s", 5.0, 2.0,
            f"{alone.sources:,} sources; {alone.since_start:.1f} s from the start of the process",
        )  # fmt: skip


def _flow(ground: Ground, sources: int, files: int) -> BenchFlow:
    folder = ground.new_folder("fleet")
    text_files(folder, files, 100)
    reference = f"{ground.registry.host}/{ground.fresh('bench/fleet')}:prod"
    # A folder is one layer, an archive.
    ground.oras("push", "--plain-http", "--no-tty", reference, folder.name, cwd=folder.parent)
    tags = [f"t{number}" for number in range(sources)]
    for start in range(0, sources, 500):
        ground.oras("tag", "--plain-http", reference, *tags[start : start + 500])
    repository = reference.rpartition(":")[0]
    worker = {"offsets": {"topic": ground.fresh("offsets"), "partitions": _PARTITIONS}}
    return BenchFlow(ground, [f"{repository}:{tag}" for tag in tags], interval="1h", worker=worker)


def _start(flow: BenchFlow, ground: Ground, ends: ExitStack, number: int) -> Logged:
    log = flow.folder / f"worker-{number}.log"
    command = flow.command("run", "--only", "source", "--log-level", "debug")
    started = time.time()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=ground.environment(), cwd=ROOT
        )
    ends.callback(process.wait, 60)
    ends.callback(process.terminate)
    return Logged(process, log, started)


def _until_all_ticked(workers: Sequence[Logged], sources: int) -> None:
    """Return when the workers together have ticked every source, whoever runs it. Raises MeasuredFailed."""
    deadline = time.monotonic() + _FIRST_PULLS_SECONDS
    while True:
        seen = {found[1] for worker in workers for line in worker.lines() if (found := _TICKED.search(line))}
        if len(seen) >= sources:
            return
        if time.monotonic() > deadline:
            raise MeasuredFailed(f"{len(seen)} of {sources} sources after {_FIRST_PULLS_SECONDS:g} s")
        time.sleep(1)


def _await_restored(worker: Logged, is_whole: Callable[[Restore], bool]) -> Restore:
    """What it restored, once that is enough and nothing more came for a moment. Raises MeasuredFailed."""
    deadline = time.monotonic() + _MOVE_SECONDS
    before: Restore | None = None
    while True:
        seen = _restored(worker)
        if seen is not None and seen == before and is_whole(seen):
            return seen
        if time.monotonic() > deadline:
            raise MeasuredFailed(f"{seen} after {_MOVE_SECONDS:g} s")
        before = seen
        time.sleep(2)


def _restored(worker: Logged) -> Restore | None:
    lines = worker.lines()
    assigned = [_moment(line) for line in lines if _ASSIGNED.search(line)]
    if not assigned:
        return None
    found = [(_moment(line), match) for line in lines if (match := _RESTORED.search(line))]
    newest = [(moment, match) for moment, match in found if moment >= assigned[-1]]
    if not newest:
        return None
    last = newest[-1][0]
    sources, paths = (sum(int(match[group]) for _, match in newest) for group in (1, 2))
    return Restore(sources, paths, last - assigned[-1], last - worker.started)


def _moment(line: str) -> float:
    """The time of a log line, in seconds since 1970."""
    return datetime.fromisoformat(line.split()[0]).timestamp()
