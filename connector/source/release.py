"""A pull's files and removals as records: the last step before the transaction."""

from collections.abc import Collection, Iterator, Sequence

from connector.kafka.record import Record, RecordSize, record_size_bytes, sizes_of
from connector.records.commit_record import CommitFacts, end_mark
from connector.records.encoder import Encoder
from connector.records.file_record import Change, FileRecord, PullFacts, pull_headers
from connector.source.changes import FileChange
from connector.source.source import Source

# Records that take up to this much together are made once and kept; larger pulls are read twice rather than held. In
# Python a record of a small file takes 2.5 KB more than on the wire.
_KEEP_BYTES = 8 * 1024 * 1024
_KEEP_RECORDS = 4_000
_KEEP_FILE_BYTES = 64 * 1024  # of which none is made only to find that it cannot be kept
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

    def __iter__(self) -> Iterator[Record]:
        return self._records() if self._kept is None else iter(self._kept)

    def sizes(self) -> Iterator[RecordSize]:
        """What each record takes, in their order. Small records of a small pull are made for it, and kept."""
        may_keep = self._size_bytes <= _KEEP_BYTES and len(self._changes) <= _KEEP_RECORDS
        kept: list[Record] | None = [] if may_keep else None
        kept_bytes = 0
        for position, entry in enumerate(self._changes):
            if kept is None or (entry.file is not None and entry.file.content.size_bytes > _KEEP_FILE_BYTES):
                kept = None
                yield self._size(position, entry)
                continue
            record = self._record(position, entry)
            size_bytes = record_size_bytes(record)
            kept_bytes += size_bytes
            if kept_bytes <= _KEEP_BYTES:
                kept.append(record)
            else:
                kept = None
            yield RecordSize(record.topic, record.key, size_bytes)
        ends = tuple(self._commit_records()) if self._source.commit_record else ()
        yield from sizes_of(ends)
        self._kept = None if kept is None else (*kept, *ends)

    def beyond(self, limit_bytes: int) -> frozenset[str]:
        """The paths of the files whose records, key and headers included, are larger. Encodes only what may be."""
        found: set[str] = set()
        for position, entry in enumerate(self._changes):
            if entry.file is None:
                continue
            if entry.file.content.size_bytes * _MOST_BYTES_FOR_ONE + _MOST_BYTES_BESIDE <= limit_bytes:
                continue
            if self._size(position, entry).size_bytes > limit_bytes:
                found.add(entry.path)
        return frozenset(found)

    def _records(self) -> Iterator[Record]:
        for position, entry in enumerate(self._changes):
            yield self._record(position, entry)
        if self._source.commit_record:
            yield from self._commit_records()

    def _record(self, position: int, entry: FileChange) -> Record:
        return self._encoded(self._file_record(position, entry))

    def _size(self, position: int, entry: FileChange) -> RecordSize:
        file = self._file_record(position, entry)
        key = self._encoder.key(self._source.artifact, file.path)
        return RecordSize(self._source.topic, key, self._encoder.size_bytes(file, key, self._shared, self._time_ms))

    def _file_record(self, position: int, entry: FileChange) -> FileRecord:
        file, is_reference = entry.file, entry.path in self._by_reference
        content = None if file is None else b"" if is_reference else file.content.read()
        return FileRecord(
            pull=self._facts,
            position=position,
            path=entry.path,
            content=content,
            digest="" if file is None else file.layer_digest,
            media_type="" if file is None else file.media_type,
            change=entry.change,
            reference_bytes=file.content.size_bytes if file is not None and is_reference else None,
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
