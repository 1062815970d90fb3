"""Readers that share no code with the product: kafka-python, read_committed, from the beginning."""

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tests.chaos.evidence import Entry

_READ_SECONDS = 30


def consumer(bootstrap: str, *, committed: bool = True) -> Any:
    """A reader without a group."""
    return KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        isolation_level="read_committed" if committed else "read_uncommitted",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
        metadata_max_age_ms=2000,
        reconnect_backoff_max_ms=500,
    )


def read_all(bootstrap: str, topic: str) -> tuple[Entry, ...]:
    """Everything a new reader finds. Raises TimeoutError when it does not get to the end."""
    reader = consumer(bootstrap)
    try:
        places = _places(reader, topic)
        reader.assign(places)
        reader.seek_to_beginning(*places)
        ends = reader.end_offsets(places)
        found: list[Entry] = []
        deadline = time.monotonic() + _READ_SECONDS
        while any(reader.position(place) < ends[place] for place in places):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a reader of {topic} stands before {ends}")
            found.extend(_entries(reader.poll(timeout_ms=200)))
        return tuple(found)
    finally:
        reader.close()


def ends_of(bootstrap: str, topic: str) -> dict[str, tuple[int, int]]:
    """Last stable offset and high watermark of each partition."""
    found: list[dict[Any, int]] = []
    for committed in (True, False):
        reader = consumer(bootstrap, committed=committed)
        try:
            found.append(reader.end_offsets(_places(reader, topic)))
        finally:
            reader.close()
    stable, high = found
    return {f"{place.topic}-{place.partition}": (stable[place], high[place]) for place in high}


class Watcher:
    """Reads along in a thread, through outages too; `entries` grows."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"watch-{topic}")
        self.entries: list[Entry] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(20)

    def saw(self, digest: str) -> bool:
        """Whether a record of this release was seen."""
        return any(entry.headers.get("oci.artifact_digest") == digest for entry in reversed(self.entries))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                reader = consumer(self._bootstrap)
            except KafkaError:  # no broker yet
                self._stop.wait(0.5)
                continue
            try:
                self._follow(reader)
            except (KafkaError, OSError, ValueError):
                self._stop.wait(0.5)
            finally:
                reader.close()

    def _follow(self, reader: Any) -> None:
        while not (numbers := reader.partitions_for_topic(self._topic)):
            if self._stop.wait(0.2):
                return
        places = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        reader.assign(places)
        for place in places:
            behind = [entry.offset + 1 for entry in self.entries if entry.partition == place.partition]
            reader.seek(place, max(behind, default=0))
        while not self._stop.is_set():
            self.entries.extend(_entries(reader.poll(timeout_ms=200)))


def _places(reader: Any, topic: str) -> list[Any]:
    deadline = time.monotonic() + _READ_SECONDS
    while not (numbers := reader.partitions_for_topic(topic)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no topic {topic}")
        time.sleep(0.1)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def _entries(batches: dict[Any, Iterable[Any]]) -> list[Entry]:
    now = time.monotonic()
    return [
        Entry(
            place.partition,
            record.offset,
            record.key.decode(),
            record.value,
            {name: value.decode() for name, value in record.headers},
            now,
        )
        for place, records in batches.items()
        for record in records
    ]
