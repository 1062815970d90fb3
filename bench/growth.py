"""How the cost of a cold pull grows with the number of files and their size."""

from collections.abc import Iterator, Sequence

from bench.flow import BenchFlow
from bench.ground import Ground, text_files
from bench.records import check_equal, files_in_topic, files_on_disk
from bench.result import Point, Result

_LIMITS = {"limits": {"max_layers": 10_000}}


def by_files(ground: Ground, counts: Sequence[int], *, size_bytes: int = 1000) -> Iterator[Result]:
    """Cold pulls of that many layers of 1 KB."""
    for files in counts:
        yield _measure(ground, files, size_bytes, "files, CPU seconds of a cold pull", files)


def by_size(ground: Ground, sizes: Sequence[int]) -> Iterator[Result]:
    """Cold pulls of ten layers of that size."""
    for size in sizes:
        yield _measure(ground, 10, size, "bytes a file (ten files), CPU seconds", size)


def _measure(ground: Ground, files: int, size_bytes: int, series: str, x: float) -> Result:
    folder = ground.new_folder("growth")
    text_files(folder, files, size_bytes)
    reference = ground.push(ground.fresh("bench/growth"), folder)
    flow = BenchFlow(ground, [reference], worker=_LIMITS)
    cost = flow.pull()
    check_equal(files_in_topic(ground.broker.bootstrap, flow.topic), files_on_disk(folder), "the publisher")
    ground.forget(flow.folder, folder)
    return Result(
        f"{files:,} layers of {size_bytes:,} bytes: cold pull", cost.seconds, "s",
        detail=f"CPU {cost.cpu_seconds:.2f} s, peak {cost.peak_mb:.0f} MB",
        points=(Point(series, x, cost.cpu_seconds),),
    )  # fmt: skip
