"""A pull's files and removals as records: the last step before the transaction."""

from collections.abc import Iterator, Sequence

from connector.kafka.record import Record, partition_for
from connector.records.file_record import FileRecord, PullFacts, file_headers, file_key, pull_headers
from connector.records.formats import Format
from connector.source.changes import FileChange
from connector.source.source import Source

# Records of a pull up to this size are encoded once and kept; a larger pull is encoded twice rather than held.
_KEEP_BYTES = 16 * 1024 * 1024


class Release:
    """The records of one pull, files first, tombstones after; may be iterated more than once, from any thread.

    Contents are read from the spool while iterating, so a large pull is never in memory as a whole.
    """

    def __init__(
        self,
        source: Source,
        facts: PullFacts,
        changes: Sequence[FileChange],
        encoder: Format,
        traceparent: str,
        size_bytes: int,
    ) -> None:
        self._source = source
        self._facts = facts
        self._changes = changes
        self._encoder = encoder
        self._shared = (*pull_headers(facts), ("traceparent", traceparent.encode()))
        self._partition = partition_for(source.artifact.encode(), source.topic_partitions)
        self._kept: tuple[Record, ...] | None = None
        self._keep = size_bytes <= _KEEP_BYTES

    def __iter__(self) -> Iterator[Record]:
        if self._kept is not None:
            return iter(self._kept)
        if self._keep:
            self._kept = tuple(self._records())
            return iter(self._kept)
        return self._records()

    def _records(self) -> Iterator[Record]:
        for position, entry in enumerate(self._changes):
            yield self._record(position, entry)

    def _record(self, position: int, entry: FileChange) -> Record:
        file = entry.file
        record = FileRecord(
            pull=self._facts,
            position=position,
            path=entry.path,
            content=None if file is None else file.content.read(),
            digest="" if file is None else file.layer_digest,
            media_type="" if file is None else file.media_type,
            change=entry.change,
        )
        encoded = self._encoder.encode(record)
        return Record(
            topic=self._source.topic,
            partition=self._partition,
            key=file_key(self._source.artifact, entry.path),
            value=encoded.value,
            headers=file_headers(record, self._shared) + encoded.headers,
        )
