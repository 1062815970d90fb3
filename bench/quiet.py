"""Ticks that find nothing new: the CPU of one tick and the memory of the worker, by the number of its sources."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.flow import BenchFlow
from bench.ground import Ground, text_files
from bench.process import cpu_seconds, resident_mb
from bench.requests import RequestCount
from bench.result import Point, Result
from tools.stack.pins import ROOT

_FILES = 3
_SOURCES_OF_THE_BARS = 1000
_SETTLE_SECONDS = 180.0
_PAUSE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Quiet:
    """What a worker with so many sources costs while nothing changes."""

    sources: int
    ticks: int
    requests: int
    cpu_ms_a_tick: float
    resident_mb: float


class NotSettled(Exception):
    """The worker did not come to rest within its time."""


def quiet_ticks(ground: Ground, beats: int, *, sources: int = 1000, seconds_a_beat: int = 5) -> Iterator[Result]:
    """The bars of a quiet worker."""
    seen = measure(ground, sources, beats, seconds_a_beat)
    is_whole = sources >= _SOURCES_OF_THE_BARS  # with fewer, what the process does beside the ticks weighs more
    yield Result(
        f"no-change tick, {sources:,} sources on one worker: CPU", seen.cpu_ms_a_tick, "ms",
        1.0 if is_whole else None, 0.5,
        f"{seen.ticks:,} ticks in {beats} beats of {seconds_a_beat} s, everything the process does included",
    )  # fmt: skip
    yield Result("the same: requests a tick", seen.requests / seen.ticks, "×", 1.0, 1.0)
    memory_bar = 120 if is_whole else None
    yield Result("the same: resident memory", seen.resident_mb, "MB", memory_bar, 80, points=_points(seen))


def growth(ground: Ground, counts: Sequence[int], beats: int) -> Iterator[Result]:
    """The same for other numbers of sources."""
    for sources in counts:
        beat = 5 if sources <= 1000 else 10
        seen = measure(ground, sources, beats, beat)
        yield Result(
            f"{sources:,} sources: CPU a tick", seen.cpu_ms_a_tick, "ms", detail=f"resident {seen.resident_mb:.0f} MB, "
            f"{seen.cpu_ms_a_tick * sources / beat / 10:.1f} % of a core at one beat in {beat} s",
            points=_points(seen),
        )  # fmt: skip


def _points(seen: Quiet) -> tuple[Point, ...]:
    per_beat = seen.cpu_ms_a_tick * seen.sources
    return (
        Point("sources, CPU ms of a beat", seen.sources, per_beat),
        Point("sources, resident MB", seen.sources, seen.resident_mb),
    )


def measure(ground: Ground, sources: int, beats: int, seconds_a_beat: int) -> Quiet:
    """A worker over `sources` tags of one artifact, watched for some beats after all of them were pulled."""
    folder = ground.new_folder("quiet")
    text_files(folder, _FILES, 1000)
    reference = ground.push(ground.fresh("bench/quiet"), folder)
    tags = [f"t{number}" for number in range(sources)]
    for start in range(0, sources, 500):
        ground.oras("tag", "--plain-http", reference, *tags[start : start + 500])
    repository = reference.rpartition(":")[0]
    flow = BenchFlow(ground, [f"{repository}:{tag}" for tag in tags], interval=f"{seconds_a_beat}s")
    flow.pull()  # so that the worker below restores and then finds nothing new
    requests = RequestCount(ground.registry.log)
    with (flow.folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            flow.command("run", "--only", "source"), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=ground.environment(), cwd=ROOT,
        )  # fmt: skip
    try:
        _until_quiet(requests, sources, worker)
        time.sleep(2 * seconds_a_beat)  # what belongs to the start is over
        _until_pause(requests)
        requests.new()
        before, started = cpu_seconds(worker.pid), time.monotonic()
        time.sleep(beats * seconds_a_beat)
        used, seen = cpu_seconds(worker.pid) - before, len(requests.new())
        took = time.monotonic() - started
        ticks = round(took / seconds_a_beat) * sources
        return Quiet(sources, ticks, seen, used / ticks * 1000, resident_mb(worker.pid))
    finally:
        worker.terminate()
        worker.wait(60)


def _until_quiet(requests: RequestCount, sources: int, worker: "subprocess.Popen[bytes]") -> None:
    """Return when every source has looked at the registry for the first time."""
    seen, deadline = 0, time.monotonic() + _SETTLE_SECONDS
    while seen < sources:
        if time.monotonic() > deadline or worker.poll() is not None:
            raise NotSettled(f"{seen} of {sources} sources have looked at the registry")
        time.sleep(0.2)
        seen += len(requests.new())


def _until_pause(requests: RequestCount) -> None:
    """Return between two beats, when the registry has not been asked for a while; or at some time, if there is none."""
    deadline = time.monotonic() + _PAUSE_SECONDS
    requests.new()
    while time.monotonic() < deadline:
        time.sleep(0.3)
        if not requests.new():
            return
