"""The product as a user has it: the command in a process of its own, and a reader of its topic without librdkafka."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

COMMAND = [sys.executable, "-m", "connector"]


@dataclass(frozen=True)
class Seen:
    """One record as a reader met it."""

    offset: int
    key: str
    value: bytes | None
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return self.key.partition("#")[2]

    @property
    def pull_id(self) -> str:
        return self.headers["oci.pull_id"]

    @property
    def change(self) -> str:
        return self.headers["oci.change"]

    @property
    def content(self) -> str:
        return str(json.loads(self.value or b"{}").get("content"))


@dataclass
class Product:
    """One flow of one artifact on one cluster; group, offsets topic and flow have names of their own."""

    folder: Path
    bootstrap: str
    artifact: str
    name: str
    interval: str = "1s"
    task: Mapping[str, Any] = field(default_factory=dict)
    worker: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML; the tests need no writer of their own.
        flow = {
            "flow": {
                "name": self.name,
                "tasks": [
                    {"generate": {"name": "tick", "interval": self.interval}},
                    {"oci_sync": {"name": "pull", "artifact": self.artifact, **self.task}},
                ],
            }
        }
        worker = {
            # The shortest session a broker allows by default: a killed worker holds its partitions that long.
            "kafka": {"bootstrap.servers": self.bootstrap, "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000},
            "group": f"g-{self.name}",
            "offsets": {"topic": f"offsets-{self.name}", "partitions": 4},
            "spool": {"directory": str(self.folder / "spool")},
            **self.worker,
        }
        self.flow_file.write_text(json.dumps(flow, indent=1))
        self.worker_file.write_text(json.dumps(worker, indent=1))

    @property
    def flow_file(self) -> Path:
        return self.folder / "flow.yaml"

    @property
    def worker_file(self) -> Path:
        return self.folder / "worker.yaml"

    @property
    def topic(self) -> str:
        return str(self.task.get("topic", f"oci.{self.name}"))

    @property
    def offsets_topic(self) -> str:
        return f"offsets-{self.name}"

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [*COMMAND, verb, *arguments, "-c", str(self.worker_file)]

    def run_once(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`run --once`, to its end; any exit code."""
        return self.call("run", "--once", *arguments, str(self.flow_file), env=env)

    def call(
        self, verb: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Any verb, to its end; any exit code."""
        return subprocess.run(
            self.command(verb, *arguments),
            capture_output=True, text=True, timeout=90, env={**os.environ, **(env or {})}, check=False,
        )  # fmt: skip

    @contextmanager
    def running(self, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator["Running"]:
        """`run` in the background; ended by SIGTERM at the latest when the block ends."""
        log = self.folder / f"worker-{time.monotonic_ns()}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                self.command("run", *arguments, str(self.flow_file)),
                stdout=stream, stderr=stream, env={**os.environ, **(env or {})},
            )  # fmt: skip
        running = Running(process, log)
        try:
            yield running
        finally:
            running.end()

    def read(self, topic: str | None = None, *, committed: bool = True, since: int = 0) -> list[Seen]:
        """Everything a reader sees now: kafka-python, which shares no code with librdkafka."""
        topic = topic or self.topic
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed" if committed else "read_uncommitted",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        try:
            partitions = [
                TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())
            ]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            for partition in partitions:
                consumer.seek(partition, since)
            seen: list[Seen] = []
            deadline = time.monotonic() + 20
            while any(consumer.position(partition) < ends[partition] for partition in partitions):
                assert time.monotonic() < deadline, f"the reader of {topic} stands before {ends}"
                for records in consumer.poll(timeout_ms=100).values():
                    seen.extend(
                        Seen(r.offset, r.key.decode(), r.value, {name: value.decode() for name, value in r.headers})
                        for r in records
                    )
            return seen
        finally:
            consumer.close()

    def offsets(self) -> dict[str, dict[str, Any]]:
        """The newest source offset of each key, tombstones applied; without what workers tell of themselves there."""
        state: dict[str, dict[str, Any]] = {}
        for record in self.read(self.offsets_topic):
            if record.key.startswith("worker."):
                continue
            if record.value is None:
                state.pop(record.key, None)
            else:
                state[record.key] = json.loads(record.value)
        return state

    def wait_for_pulls(self, count: int, seconds: float = 30) -> list[list[Seen]]:
        """The pulls visible to a committed reader, as soon as there are `count` of them."""
        deadline = time.monotonic() + seconds
        while True:
            pulls = pulls_of(self.read()) if self.exists() else []
            if len(pulls) >= count:
                return pulls
            assert time.monotonic() < deadline, f"{len(pulls)} of {count} pulls after {seconds} s"
            time.sleep(0.05)

    def exists(self) -> bool:
        """Whether the topic was created yet."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            return self.topic in consumer.topics()
        finally:
            consumer.close()


@dataclass
class Running:
    """A worker process."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str, count: int = 1, seconds: float = 30) -> None:
        """Until the log holds the pattern so many times."""
        deadline = time.monotonic() + seconds
        while len(re.findall(pattern, self.text())) < count:
            assert self.process.poll() is None, f"the worker ended with {self.process.returncode}:\n{self.text()}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {seconds} s:\n{self.text()}"
            time.sleep(0.02)

    def end(self, seconds: float = 30) -> int:
        """SIGTERM, and the exit code; killed when it does not obey."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
                raise
        return self.process.returncode


def pulls_of(records: Sequence[Seen]) -> list[list[Seen]]:
    """The records by pull, in the order of the log. Fails when two pulls of one source interleave."""
    pulls: list[list[Seen]] = []
    for record in records:
        if pulls and pulls[-1][0].pull_id == record.pull_id:
            pulls[-1].append(record)
        else:
            assert all(record.pull_id != pull[0].pull_id for pull in pulls), f"{record.pull_id} is torn by another pull"
            pulls.append([record])
    return pulls


def assert_whole(pull: Sequence[Seen]) -> None:
    """Every position once, in order, and as many as the pull says."""
    expected = int(pull[0].headers["oci.files"]) + int(pull[0].headers["oci.deletes"])
    assert [int(record.headers["oci.position"]) for record in pull] == list(range(expected))


def table_of(records: Sequence[Seen]) -> dict[str, str]:
    """What a KTable of the topic holds: path → content."""
    table: dict[str, str] = {}
    for record in records:
        if record.value is None:
            table.pop(record.path, None)
        else:
            table[record.path] = record.content
    return table
