"""A pull's files and removals as records: the last step before the transaction."""

from collections.abc import Collection, Iterator, Sequence

from connector.kafka.record import Record, record_size_bytes
from connector.records.commit_record import CommitFacts, end_mark
from connector.records.encoder import Encoder
from connector.records.file_record import Change, FileRecord, PullFacts, pull_headers
from connector.source.changes import FileChange
from connector.source.source import Source

# Records of a pull up to this size are encoded once and kept; a larger pull is encoded twice rather than held.
_KEEP_BYTES = 16 * 1024 * 1024
# A byte of a file takes at most six in a value (a control character in JSON); key, headers and the other fields hold
# the path at most four times (4 KiB each, doubled by escapes), and the reference.
_MOST_BYTES_FOR_ONE = 6
_MOST_BYTES_BESIDE = 64 * 1024


class Release:
    """The records of one pull, files first, tombstones after; may be iterated more than once, from any thread.

    Contents are read from the spool while iterating, so a large pull is never in memory as a whole. `by_reference`
    names the paths whose content is too large for Kafka and stays in its layer. `time_ms` is when it happened.
    """

    def __init__(
        self,
        source: Source,
        facts: PullFacts,
        changes: Sequence[FileChange],
        encoder: Encoder,
        traceparent: str,
        time_ms: int,
        by_reference: Collection[str] = (),
    ) -> None:
        self._source = source
        self._facts = facts
        self._changes = changes
        self._encoder = encoder
        self._shared = (*pull_headers(facts), ("traceparent", traceparent.encode()))
        self._time_ms = time_ms
        self._by_reference = frozenset(by_reference)
        self._size_bytes = sum(entry.file.content.size_bytes for entry in changes if entry.file is not None)
        self._kept: tuple[Record, ...] | None = None
        self._keep = self._size_bytes <= _KEEP_BYTES

    def __iter__(self) -> Iterator[Record]:
        if self._kept is not None:
            return iter(self._kept)
        if self._keep:
            self._kept = tuple(self._records())
            return iter(self._kept)
        return self._records()

    def beyond(self, limit_bytes: int) -> frozenset[str]:
        """The paths of the files whose records, key and headers included, are larger. Encodes only what may be."""
        found: set[str] = set()
        for position, entry in enumerate(self._changes):
            if entry.file is None:
                continue
            if entry.file.content.size_bytes * _MOST_BYTES_FOR_ONE + _MOST_BYTES_BESIDE <= limit_bytes:
                continue
            if record_size_bytes(self._record(position, entry)) > limit_bytes:
                found.add(entry.path)
        return frozenset(found)

    def _records(self) -> Iterator[Record]:
        for position, entry in enumerate(self._changes):
            yield self._record(position, entry)
        if self._source.commit_record:
            yield from self._commit_records()

    def _record(self, position: int, entry: FileChange) -> Record:
        file, is_reference = entry.file, entry.path in self._by_reference
        content = None if file is None else b"" if is_reference else file.content.read()
        return self._encoded(
            FileRecord(
                pull=self._facts,
                position=position,
                path=entry.path,
                content=content,
                digest="" if file is None else file.layer_digest,
                media_type="" if file is None else file.media_type,
                change=entry.change,
                reference_bytes=file.content.size_bytes if file is not None and is_reference else None,
            )
        )

    def _commit_records(self) -> Iterator[Record]:
        """One for each partition that may hold a file of this source, so that none keeps an older pull's."""
        source = self._source
        digests: dict[int, dict[str, str]] = {number: {} for number in source.record_partitions}
        for entry in self._changes:
            if entry.file is not None:
                key = self._encoder.key(source.artifact, entry.path)
                digests[source.record_partition(key)][entry.path] = entry.file.layer_digest
        changed = sum(1 for entry in self._changes if entry.change is not Change.UNCHANGED)
        for position, (number, here) in enumerate(digests.items(), start=len(self._changes)):
            mark = end_mark(self._facts, CommitFacts(changed, self._size_bytes, here), position)
            yield self._encoded(mark, number)

    def _encoded(self, file: FileRecord, partition: int | None = None) -> Record:
        source = self._source
        key = self._encoder.key(source.artifact, file.path)
        number = source.record_partition(key) if partition is None else partition
        return self._encoder.record(file, key, source.topic, number, self._shared, self._time_ms)
