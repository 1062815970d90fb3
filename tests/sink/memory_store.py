"""A store in memory that counts writes, can fail on demand, and a feed that a test fills."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from connector.errors import SinkError
from connector.kafka.assignment import Assigned, Place, Polled, Revoked
from connector.kafka.record import Headers, Record
from connector.records.file_record import Change, FileRecord, PullFacts, file_headers, file_key, pull_headers
from connector.records.formats import Encoded
from connector.records.formats.json import JsonFormat
from connector.sink.store import Entry


@dataclass
class MemoryStore:
    """`writes` lists every put and delete; `before_write` may raise or do anything."""

    values: dict[str, Entry] = field(default_factory=dict)
    writes: list[tuple[str, str]] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    before_write: Callable[[str], None] = lambda key: None
    is_down: bool = False
    revision: int = 0

    def check(self, key: str, value: bytes) -> None:
        if not key:
            raise SinkError(reason="KeyInvalid", doing="checking", cause="empty key", remedy="none")

    async def list(self, prefix: str) -> Mapping[str, Entry]:
        self._up()
        self.lists.append(prefix)
        return {key: entry for key, entry in self.values.items() if key.startswith(prefix)}

    async def keys(self, prefix: str) -> frozenset[str]:
        return frozenset(await self.list(prefix))

    async def get(self, key: str) -> Entry | None:
        self._up()
        return self.values.get(key)

    async def put(self, key: str, value: bytes, replaced: Entry | None) -> None:
        self._up()
        self.before_write(key)
        self._unchanged(key, replaced)
        self.set(key, value)
        self.writes.append(("put", key))

    async def delete(self, key: str, replaced: Entry) -> None:
        self._up()
        self.before_write(key)
        self._unchanged(key, replaced)
        del self.values[key]
        self.writes.append(("delete", key))

    async def probe(self) -> str:
        self._up()
        return "answers"

    async def close(self) -> None:
        pass

    def set(self, key: str, value: bytes) -> None:
        """A change by hand, or by a put."""
        self.revision += 1
        self.values[key] = Entry(value, self.revision)

    def plain(self) -> dict[str, bytes]:
        return {key: entry.value for key, entry in self.values.items()}

    def _up(self) -> None:
        if self.is_down:
            raise SinkError(reason="StoreUnreachable", doing="asking", cause="down", remedy="start it")

    def _unchanged(self, key: str, replaced: Entry | None) -> None:
        if self.values.get(key) != replaced:
            raise SinkError(reason="StoreConflict", doing="writing", cause="another writer", remedy="none")


ARTIFACT = "registry.example.com/org/rules:prod"
TOPIC = "oci.rules"


def pull(
    pull_id: str, files: Mapping[str, str], removed: Sequence[str] = (), artifact: str = ARTIFACT, digest: str = ""
) -> list[FileRecord]:
    """The records of one pull, whole, in order."""
    facts = PullFacts(pull_id, artifact, digest or f"sha256:{pull_id}", None, None, len(files), len(removed))
    live = [
        FileRecord(facts, position, path, text.encode(), f"sha256:of-{text}", "text/plain", Change.ADDED)
        for position, (path, text) in enumerate(files.items())
    ]
    gone = [
        FileRecord(facts, len(files) + number, path, None, "", "", Change.REMOVED)
        for number, path in enumerate(removed)
    ]
    return live + gone


class Writes(Protocol):
    """What writes the values of records."""

    def encode(self, file: FileRecord) -> Encoded: ...


@dataclass
class MemoryFeed:
    """A log of one partition, and a group with one member; `commits` notes every commit."""

    log: list[Record] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    changes: list[Assigned | Revoked] = field(default_factory=list)
    position: int | None = None
    committed: int = -1

    def write(self, files: Sequence[FileRecord], form: Writes | None = None) -> None:
        """In JSON, unless `form` is another."""
        for file in files:
            encoded = (form or JsonFormat()).encode(file)
            headers: Headers = file_headers(file, pull_headers(file.pull)) + encoded.headers
            key = file_key(file.pull.artifact, file.path)
            self.append(key, encoded.value, headers)

    def append(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        self.log.append(Record(TOPIC, 0, key, value, headers, offset=len(self.log)))

    def assign(self) -> None:
        self.changes.append(Assigned(TOPIC, 0, len(self.log), self.committed))
        self.position = 0

    def revoke(self) -> None:
        self.changes.append(Revoked(TOPIC, 0))
        self.position = None

    async def poll(self, limit: int, timeout_seconds: float) -> Polled:
        changes, self.changes = tuple(self.changes), []
        if self.position is None:
            return Polled(changes)
        records = tuple(self.log[self.position : self.position + limit])
        self.position += len(records)
        place: Place = (TOPIC, 0)
        return Polled(changes, records, {place: self.position}, {place: len(self.log)})

    async def commit(self, topic: str, partition: int, next_offset: int) -> None:
        self.commits.append(next_offset)
        self.committed = next_offset
