"""The source half of a worker in a process of its own, which says how far each pull drove its memory.

`python -m tests.memory.puller <worker.yaml> <flow.yaml> <max.message.bytes> <room>`: what each task of the flow names
is pulled twice, the second time from the cache, and each pull is a line of JSON. The first task is there to have
everything imported and connected; `room`, if not 0, is how many MB the pulls after it may add, or fail for want of.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import Consumer

from connector.config.flow_file import load_flow
from connector.config.worker_file import Worker, load_worker
from connector.errors import OciSyncError
from connector.kafka.membership import Fence
from connector.kafka.record import Record
from connector.kafka.topics import Topic
from connector.kafka.transaction import Committed
from connector.source.group import writes_of
from connector.source.outcome import Pull
from connector.source.tasks.oci_sync import OciSync
from connector.wiring.parts import Parts, open_parts
from connector.wiring.source_half import build_sources, group_of, topic_specs

# Sixteen threads that a pull may start reserve a stack of 1 MB each; what they touch of them is little.
_STACKS_BYTES = 16_000_000


class Member:
    """The proof of a membership, for a broker that believes everybody."""

    def __init__(self, worker: Worker) -> None:
        self._topic = worker.offsets.topic
        self._consumer = Consumer({"bootstrap.servers": worker.bootstrap, "group.id": worker.group})

    def fence(self, positions: dict[int, int]) -> Fence:
        """See `kafka.attempt.Prover`."""
        offsets = tuple((self._topic, partition, position) for partition, position in positions.items())
        return Fence(offsets, self._consumer.consumer_group_metadata())


class Output:
    """Where a tick puts its records: what the owner of a partition writes with."""

    def __init__(self, parts: Parts, limits: dict[str, int | None]) -> None:
        group = group_of(parts.worker)
        self._limits = limits
        self._writes = writes_of(group, parts.clients, Member(parts.worker), parts.changelog, 0)

    async def prepare(self) -> None:
        await self._writes.initialise(self._limits)

    async def commit(self, records: Iterable[Record], offset: Record) -> Committed:
        return await self._writes.commit(records, offset, 0, self._limits)

    async def close(self) -> None:
        await self._writes.discard()


def memory_bytes(line: str) -> int:
    """What the kernel says of this process. Not ru_maxrss, which begins at what the parent had when it forked."""
    status = Path("/proc/self/status").read_text()
    return next(1024 * int(text.split()[1]) for text in status.splitlines() if text.startswith(f"{line}:"))


def forget_peak() -> None:
    """Let the kernel count VmHWM anew from here."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


async def pulled(ticker: OciSync, output: Output) -> dict[str, object]:
    """What came of one pull, and how large this process was at most meanwhile."""
    forget_peak()
    started = time.monotonic()
    try:
        pull = await ticker.tick(None, {}, output, force=True)
        assert isinstance(pull, Pull)
        outcome = f"{pull.offset.files} files"
    except OciSyncError as error:
        outcome = error.reason
    finally:
        await output.close()
    return {"outcome": outcome, "peak": memory_bytes("VmHWM"), "seconds": time.monotonic() - started}


async def main(worker_file: str, flow_file: str, max_message_bytes: str, room: str) -> None:
    worker, flow = load_worker(Path(worker_file), {}), load_flow(Path(flow_file), environ={})
    config = {"max.message.bytes": max_message_bytes}
    topics = {spec.name: Topic(spec.name, 1, config) for spec in topic_specs(worker, [flow])}
    async with open_parts(worker) as parts:
        output = Output(parts, {name: topic.max_message_bytes for name, topic in topics.items()})
        for number, scheduled in enumerate(build_sources(parts, [flow], topics)):
            if number == 1 and int(room):
                most = memory_bytes("VmData") + int(room) * 1_000_000 + _STACKS_BYTES
                resource.setrlimit(resource.RLIMIT_DATA, (most, most))
            for _ in range(2):
                print(json.dumps(await pulled(scheduled.ticker, output)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
