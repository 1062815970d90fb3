"""From the end of a push to the last write of the store, on a worker that runs; and what a restart writes after that.

The last write is when the NATS server stamped it, the end of the push when `oras` had ended: one clock, one machine.
"""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from statistics import median

import nats
import nats.js.errors
from nats.js.api import DeliverPolicy

from bench.flow import BenchFlow
from bench.ground import Ground, MeasuredFailed, text_files
from bench.records import WorkDiffers
from bench.result import Result, spread
from tools.stack.pins import ROOT

_ARRIVE_SECONDS = 60.0
_LAST = DeliverPolicy.LAST


def push_to_store(ground: Ground, runs: int, *, files: int = 1000) -> Iterator[Result]:
    """Seconds from push to store with a look every second, and the writes of a restart that finds nothing new."""
    folder = ground.new_folder("arrival")
    seconds: list[float] = []
    restarts: list[int] = []
    repository = ground.fresh("bench/arrival")
    text_files(folder, files, 1000, seeds=range(files))
    reference = ground.push(repository, folder)
    bucket = ground.fresh("bench")
    flow = BenchFlow(ground, [reference], interval="1s", sink={"url": ground.nats.url, "bucket": bucket})
    with (flow.folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            flow.command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=ground.environment(), cwd=ROOT,
        )  # fmt: skip
    try:
        asyncio.run(_until_written(ground.nats.url, bucket, files))
        for number in range(1, runs + 1):
            text_files(folder, files, 1000, seeds=range(number * files, (number + 1) * files))
            ground.push(repository, folder)
            pushed = time.time()
            last = asyncio.run(_until_written(ground.nats.url, bucket, (number + 1) * files))
            seconds.append(last - pushed)
    finally:
        worker.terminate()
        worker.wait(60)
    written = asyncio.run(_writes(ground.nats.url, bucket))
    if written != (runs + 1) * files:
        raise WorkDiffers(f"{written} writes for {runs + 1} releases of {files} changed files")
    for _ in range(runs):
        flow.apply()
        restarts.append(asyncio.run(_writes(ground.nats.url, bucket)) - written)
    yield Result(f"push of {files:,} changed files to the last KV write", median(seconds), "s", detail=spread(seconds))
    yield Result("writes of a sink's restart that finds nothing new", max(restarts), "", 0, 0)


async def _until_written(url: str, bucket: str, writes: int) -> float:
    """The moment of the bucket's write of that number, by the server's clock. Raises MeasuredFailed."""
    deadline = time.monotonic() + _ARRIVE_SECONDS
    while (seen := await _writes(url, bucket)) < writes:
        if time.monotonic() > deadline:
            raise MeasuredFailed(f"{seen} of {writes} writes within {_ARRIVE_SECONDS:g} s")
        await asyncio.sleep(0.1)
    client = await nats.connect(url)
    try:
        newest = await client.jetstream().subscribe(f"$KV.{bucket}.>", ordered_consumer=True, deliver_policy=_LAST)
        return (await newest.next_msg(timeout=10)).metadata.timestamp.timestamp()
    finally:
        await client.close()


async def _writes(url: str, bucket: str) -> int:
    """How many writes the bucket ever saw: the last sequence of its stream."""
    client = await nats.connect(url)
    try:
        return (await client.jetstream().stream_info(f"KV_{bucket}")).state.last_seq
    except nats.js.errors.NotFoundError:
        return 0
    finally:
        await client.close()
