"""The sink half of one flow in a process of its own, until it is ended; the smallest thing that a test can kill.

python -m tests.system.sink_runner WORKER.yaml FLOW.yaml [--once]
"""

import asyncio
import importlib
import logging
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from connector.config.flow_file import Flow, load_flow
from connector.config.worker_file import Worker, load_worker
from connector.kafka.clients import Clients
from connector.kafka.group_feed import GroupFeed
from connector.oci.clock import SystemClock
from connector.sink.flow_sink import build_lines
from connector.sink.parts import Parts
from connector.sink.pipeline import Pipeline
from connector.status import Status


async def run(worker_file: Path, flow_file: Path, *, once: bool) -> bool:
    worker, flow = load_worker(worker_file), load_flow(flow_file, "sink")
    sources = [task for task in flow.source_tasks if task.word == "oci_sync"]
    topics = {str(getattr(task.fields, "topic", None) or f"oci.{flow.name}"): task for task in sources}
    formats = {
        topic: importlib.import_module(f"connector.records.formats.{getattr(task.fields, 'format', 'json')}").build()
        for topic, task in topics.items()
    }
    lines = build_lines(flow, Parts(flow.name, worker.limits.max_total_size))
    async with (
        Clients(worker.kafka) as clients,
        GroupFeed(clients, group=_group(worker, flow), topics=list(topics), instance_id="one") as feed,
    ):
        pipeline = Pipeline(flow.name, lines, feed, formats, Status("w", datetime.now(UTC)), SystemClock())
        if once:
            return await pipeline.run_once(30)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await pipeline.run(stop)
        return False


def _group(worker: Worker, flow: Flow) -> str:
    return f"{worker.group}-sink-{flow.name}"


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    worker_file, flow_file, *more = sys.argv[1:]
    sys.exit(asyncio.run(run(Path(worker_file), Path(flow_file), once="--once" in more)))


if __name__ == "__main__":
    main()
