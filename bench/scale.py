"""Many sources on a few workers: how fast work moves to a new worker, and how fast a restart restores.

    python -m bench.scale [SOURCES] [FILES]

2,000 sources of 50 files (100,000 paths) over 64 partitions of the offsets topic, three workers, then a fourth; at last
all end and one worker restores everything. Prints the figures of docs/performance.md.
"""

import json
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from tests.fakes.registry import FakeRegistry
from tests.system import servers
from tests.system.product import Product, Running

PARTITIONS = 64


class Fleet(Product):
    """Many sources in one flow."""

    def __init__(self, folder: Path, bootstrap: str, fake: FakeRegistry, sources: int) -> None:
        super().__init__(folder, bootstrap, fake.reference("org/a0"), "fleet")
        tasks: list[object] = [{"generate": {"name": "tick", "interval": "5s", "jitter": "5s"}}]
        for number in range(sources):
            artifact = fake.reference(f"org/a{number}")
            tasks.append({"oci_sync": {"name": f"p{number}", "artifact": artifact, "depends_on": ["tick"]}})
        self.flow_file.write_text(json.dumps({"flow": {"name": "fleet", "tasks": tasks}}))
        worker = json.loads(self.worker_file.read_text())
        worker["offsets"]["partitions"] = PARTITIONS
        self.worker_file.write_text(json.dumps(worker))


def wait_until_settled(workers: list[Running], sources: int, seconds: float) -> None:
    """Until the workers together have ticked every source, whoever runs it."""
    deadline = time.monotonic() + seconds
    while True:
        told = "".join(worker.text() for worker in workers)
        seen = set(re.findall(r"(?:unchanged since last pull|committed \d+ files).*?artifact=(\S+)", told))
        if len(seen) >= sources:
            return
        assert time.monotonic() < deadline, f"{len(seen)} of {sources} sources after {seconds} s"
        time.sleep(0.5)


def moment(line: str) -> float:
    """The time of a log line, in seconds."""
    return datetime.fromisoformat(line.split()[0]).timestamp()


def restore_figures(worker: Running) -> tuple[int, int, float]:
    """Sources, paths, and seconds from the assignment to the last restored partition."""
    lines = worker.text().splitlines()
    assigned = [line for line in lines if re.search(r"assigned \d+ partitions with \d+ sources", line)]
    restored = [line for line in lines if "restored partition" in line and moment(line) >= moment(assigned[-1])]
    numbers = [re.search(r": (\d+) sources, (\d+) paths", line) for line in restored]
    sources = sum(int(found[1]) for found in numbers if found)
    paths = sum(int(found[2]) for found in numbers if found)
    return sources, paths, moment(restored[-1]) - moment(assigned[-1])


def main() -> None:
    """Measure and print."""
    sources = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    files = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    debug = ("--log-level", "debug")
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        fake = ends.enter_context(FakeRegistry())
        for number in range(sources):
            fake.publish(f"org/a{number}", "prod", {f"f{n:02}.yaml": f"{number} {n}\n".encode() for n in range(files)})
        broker = servers.start_broker(folder / "kafka", ends)
        fleet = Fleet(folder / "fleet", broker.bootstrap, fake, sources)
        started = time.monotonic()
        first = [ends.enter_context(fleet.running(*debug)) for _ in range(3)]
        wait_until_settled(first, sources, 900)
        print(f"{sources} sources of {files} files, first pulls on three workers: {time.monotonic() - started:.0f} s")

        fourth = ends.enter_context(fleet.running(*debug))
        fourth.wait_for("restored partition", seconds=60)
        asked = moment(fourth.text().splitlines()[0])
        time.sleep(5)
        took, paths, restoring = restore_figures(fourth)
        ticked = [line for line in fourth.text().splitlines() if "digest unchanged" in line]
        print(
            f"a fourth worker: {took} sources with {paths} paths moved to it, restored {restoring:.1f} s after the "
            f"assignment; first tick {moment(ticked[0]) - asked:.1f} s after its first log line"
        )
        for worker in (*first, fourth):
            assert worker.end(60) == 0
        alone = ends.enter_context(fleet.running(*debug))
        wait_until_settled([alone], sources, 300)
        took, paths, restoring = restore_figures(alone)
        print(f"one worker restarts: {took} sources, {paths} paths restored in {restoring:.1f} s")
        assert alone.end(60) == 0


if __name__ == "__main__":
    main()
