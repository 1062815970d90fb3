"""Pulls in a process of their own, to a broker and from a registry that live in ours."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from tests.fakes.registry import FakeRegistry
from tests.memory import hostile

RECORDS, OFFSETS = "records", "offsets"
# What `max_file_size` needs at its default: the topic as we create it.
MAX_MESSAGE_BYTES = 20_065_536
# glibc reserves as much for each thread, 8 MB by default, as is set when the process starts: of a limit, two threads of
# librdkafka would take more than a record.
_SMALL_STACKS = ("sh", "-c", 'ulimit -s 1024 && exec "$@"', "sh")


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of one pull; `grown_mb` is how far its peak stood above the idle process, `peak_mb` the peak itself."""

    outcome: str
    grown_mb: float
    peak_mb: float
    seconds: float


@contextmanager
def mock_broker() -> Iterator[str]:
    """The address of librdkafka's own mock: transactions over TCP, and what is sent to it is not in the puller."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    for topic in (RECORDS, OFFSETS):
        producer.list_topics(topic, timeout=10)
    (broker,) = producer.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    producer.close()


def pull(
    folder: Path,
    broker: str,
    name: str,
    task: Mapping[str, object] | None = None,
    worker: Mapping[str, object] | None = None,
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    room_mb: int = 0,
) -> list[Pulled]:
    """Two pulls of the hostile artifact of that name; with `room_mb`, no more than that may be added at all."""
    with FakeRegistry() as registry:
        registry.publish("warm-up", "prod", {"a": b"a"})
        files = _files(folder, broker, [registry.reference("warm-up"), hostile.publish(registry, name)], task, worker)
        done = subprocess.run(
            [*_SMALL_STACKS, sys.executable, "-m", "tests.memory.puller", *files, str(max_message_bytes), str(room_mb)],
            capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    _, idle, *pulls = map(json.loads, done.stdout.splitlines())
    return [
        Pulled(one["outcome"], (one["peak"] - idle["peak"]) / 1e6, one["peak"] / 1e6, one["seconds"]) for one in pulls
    ]


def _files(
    folder: Path,
    broker: str,
    references: list[str],
    task: Mapping[str, object] | None,
    worker: Mapping[str, object] | None,
) -> list[str]:
    tasks: list[object] = [{"generate": {"name": "tick", "interval": "1h"}}]
    for number, reference in enumerate(references):
        fields = {"name": f"pull-{number}", "depends_on": ["tick"], "artifact": reference, "topic": RECORDS}
        tasks.append({"oci_sync": {**fields, **(task or {})}})
    settings = {
        "kafka": {"bootstrap.servers": broker},
        "offsets": {"topic": OFFSETS, "partitions": 1},
        "spool": {"directory": str(folder / "spool")},
        **(worker or {}),
    }
    (folder / "flow.yaml").write_text(json.dumps({"flow": {"name": "f", "tasks": tasks}}))
    (folder / "worker.yaml").write_text(json.dumps(settings))
    return [str(folder / "worker.yaml"), str(folder / "flow.yaml")]
