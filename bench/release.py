"""A release that changes 3 of 1,000 layers, on a worker's warm blob cache, beside the cold pull of all of them."""

from collections.abc import Iterator

from bench.flow import BenchFlow
from bench.ground import Ground, text_file, text_files
from bench.records import check_equal, files_in_topic, files_on_disk
from bench.requests import RequestCount
from bench.result import Pair, Result, ratio, spread

_CHANGED = 3


def small_release(ground: Ground, runs: int, *, layers: int = 1000) -> Iterator[Result]:
    """Seconds of both pulls, and the requests of the second."""
    folder = ground.new_folder("release")
    text_files(folder, layers, 4096)
    repository = ground.fresh("bench/release")
    requests = RequestCount(ground.registry.log)
    pairs: list[Pair] = []
    inside: list[Pair] = []
    counts: list[int] = []
    for number in range(runs):
        reference = ground.push(repository, folder)
        flow = BenchFlow(ground, [reference])
        cold = flow.pull()
        cold_inside = flow.pulled_seconds()
        for changed in range(_CHANGED):
            text_file(folder / f"file-{changed * 7:05d}.txt", 4096, seed=10_000_000 + number * _CHANGED + changed)
        ground.push(repository, folder)
        requests.new()
        warm = flow.pull()
        inside.append(Pair(flow.pulled_seconds(), cold_inside))
        counts.append(len(requests.new()))
        check_equal(files_in_topic(ground.broker.bootstrap, flow.topic), files_on_disk(folder), "the publisher")
        pairs.append(Pair(warm.seconds, cold.seconds))
        ground.forget(flow.folder)
    yield Result(
        f"a release that changes {_CHANGED} of {layers:,} layers, against the cold pull", ratio(pairs), "×",
        0.3 if layers >= 1000 else None, 0.15,  # with fewer, both are mostly the start of the process
        f"{spread([pair.ours for pair in pairs])} s, cold {spread([pair.theirs for pair in pairs])} s",
    )  # fmt: skip
    yield Result(
        "the same inside of a worker that runs: HEAD to commit", ratio(inside), "×",
        detail=f"{spread([pair.ours for pair in inside])} s, cold {spread([pair.theirs for pair in inside])} s",
    )  # fmt: skip
    yield Result("requests of that pull", max(counts), "", 5, detail="HEAD, manifest, 3 blobs")
