"""1,000 changed files from the topic into NATS KV, beside a bare nats-py loop with as many in flight (one).

The time of each side is that between the first and the last write as the NATS server stamped them.
"""

import asyncio
from collections.abc import Iterator, Mapping

import nats
from nats.js.api import KeyValueConfig

from bench.flow import SINK_PREFIX, BenchFlow
from bench.ground import Ground, text_files
from bench.records import WorkDiffers
from bench.result import Pair, Result, ratio, spread


def nats_writes(ground: Ground, runs: int, *, files: int = 1000) -> Iterator[Result]:
    """Seconds of writing, and of the whole process."""
    folder = ground.new_folder("sink")
    text_files(folder, files, 1000)
    reference = ground.push(ground.fresh("bench/sink"), folder)
    contents = {f"{SINK_PREFIX}{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
    pairs: list[Pair] = []
    whole: list[float] = []
    for _ in range(runs):
        bucket = ground.fresh("bench")
        asyncio.run(_bare_loop(ground.nats.url, f"{bucket}-bare", contents))
        flow = BenchFlow(ground, [reference], sink={"url": ground.nats.url, "bucket": bucket})
        flow.pull()
        whole.append(flow.apply().seconds)
        theirs, bare_seconds = asyncio.run(_look(ground.nats.url, f"{bucket}-bare"))
        ours, seconds = asyncio.run(_look(ground.nats.url, bucket))
        if ours != theirs or len(ours) != files:
            raise WorkDiffers(f"the bare loop wrote {len(theirs)} keys, the sink {len(ours)}, and they differ")
        pairs.append(Pair(seconds, bare_seconds))
        ground.forget(flow.folder)
    yield Result(
        f"sink: {files:,} changed files to NATS KV, against a bare nats-py loop", ratio(pairs), "×", 1.5, 1.1,
        f"ours {spread([pair.ours for pair in pairs])} s, bare {spread([pair.theirs for pair in pairs])} s",
    )  # fmt: skip
    yield Result(
        "the whole process of that: start, read the topic, compare, write, stop", sorted(whole)[len(whole) // 2], "s"
    )


async def _bare_loop(url: str, bucket: str, contents: Mapping[str, bytes]) -> None:
    client = await nats.connect(url)
    store = await client.jetstream().create_key_value(KeyValueConfig(bucket=bucket, history=1))
    for key, value in contents.items():
        await store.create(key, value)
    await client.close()


async def _look(url: str, bucket: str) -> tuple[Mapping[str, bytes], float]:
    """What the bucket holds, and the seconds between its first and its last write."""
    client = await nats.connect(url)
    newest = await client.jetstream().subscribe(f"$KV.{bucket}.>", ordered_consumer=True)
    found: dict[str, bytes] = {}
    times: list[float] = []
    while True:
        message = await newest.next_msg(timeout=10)
        found[message.subject.removeprefix(f"$KV.{bucket}.")] = message.data
        times.append(message.metadata.timestamp.timestamp())
        if message.metadata.num_pending == 0:
            break
    await client.close()
    return found, max(times) - min(times)
