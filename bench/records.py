"""What a topic holds, for the check that work was equal; and the bare transaction that is the floor."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

_READ_SECONDS = 60.0


class WorkDiffers(Exception):
    """Two sides of a comparison did not do the same work."""


def files_in_topic(bootstrap: str, topic: str) -> dict[str, str]:
    """Path → SHA-256 of the content, of what a read_committed reader sees in the only partition."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "isolation.level": "read_committed",
         "enable.partition.eof": True, "fetch.message.max.bytes": 16_000_000, "queued.max.messages.kbytes": 32_000}
    )  # fmt: skip
    found: dict[str, str] = {}
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        deadline = time.monotonic() + _READ_SECONDS
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is not None:
                return found
            key, value = message.key(), message.value()
            assert isinstance(key, bytes)
            path = key.decode().partition("#")[2]
            if value is None:
                found.pop(path, None)
            else:
                found[path] = hashlib.sha256(json.loads(value)["content"].encode()).hexdigest()
    finally:
        consumer.close()
    raise WorkDiffers(f"the end of {topic} was not reached within {_READ_SECONDS:.0f} s")


def files_on_disk(folder: Path) -> dict[str, str]:
    """Path → SHA-256 of every file below the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_equal(ours: Mapping[str, str], theirs: Mapping[str, str], who: str) -> None:
    """Raise WorkDiffers unless both sides hold the same files, byte for byte."""
    if ours != theirs:
        different = [path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path)]
        raise WorkDiffers(f"{len(different)} files differ from what {who} wrote, such as {sorted(different)[0]}")


def bare_transaction(bootstrap: str, topic: str, folder: Path) -> float:
    """Seconds from begin to the end of commit for one record a file, on a producer that is ready and connected."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": f"bench-{topic}", "message.max.bytes": 20_000_000,
         "batch.size": 1_000_000}
    )  # fmt: skip
    producer.init_transactions(30)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    started = time.monotonic()
    producer.begin_transaction()
    for name, content in files.items():
        while True:
            try:
                producer.produce(topic, value=content, key=name, partition=0)
                break
            except BufferError:
                producer.poll(0.01)
    producer.commit_transaction(60)
    return time.monotonic() - started
