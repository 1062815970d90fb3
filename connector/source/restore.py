"""What a new owner of a partition must know before its sources tick: the offsets, and the paths readers have."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connector.errors import OutputError
from connector.kafka.changelog import Changelog
from connector.kafka.record import Record
from connector.records.request import Request, read_request, split_request_key
from connector.records.source_offset import SourceOffset, read_offset
from connector.source.source import Source

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestoredSources:
    """Where a partition stands. By offset key: the offset where there is one, and the paths readers may have.

    `requests` are those that wait in the partition, for sources of ours or of nobody.
    """

    position: int
    offsets: Mapping[bytes, SourceOffset]
    known_paths: Mapping[bytes, Mapping[str, str]]
    requests: tuple[Request, ...]


class Restorer:
    """Reads the state of sources from Kafka, the only place where it is kept."""

    def __init__(self, changelog: Changelog, offsets_topic: str) -> None:
        self._changelog = changelog
        self._offsets_topic = offsets_topic

    async def restore(self, partition: int, sources: Sequence[Source]) -> RestoredSources:
        """The state of the sources of one partition. Raises what `Changelog.read` raises."""
        ours = {source.offset_key for source in sources}
        restored = await self._changelog.read(
            self._offsets_topic,
            [partition],
            lambda record: record if record.key in ours or split_request_key(record.key) is not None else None,
        )
        held = {key: record for key, record in restored[partition].entries.items() if record is not None}
        offsets: dict[bytes, SourceOffset] = {}
        known_paths: dict[bytes, Mapping[str, str]] = {}
        for source in sources:
            record = held.get(source.offset_key)
            offset = None if record is None else _offset(source, record.value)
            if offset is not None and offset.files and await self._has_lost_its_records(source):
                offset = None
            if offset is None:
                known_paths[source.offset_key] = await self._paths_in_topic(source)
            else:
                offsets[source.offset_key] = offset
                known_paths[source.offset_key] = offset.paths
        requests = tuple(request for record in held.values() if (request := readable_request(record)) is not None)
        return RestoredSources(restored[partition].position, offsets, known_paths, requests)

    async def _has_lost_its_records(self, source: Source) -> bool:
        """Whether the layer topic is empty although an offset says that files were sent: it was made anew.

        Without a look, the digest would stand for ever and readers of the new topic would get nothing.
        """
        numbers = source.record_partitions
        for number in numbers:
            if not await self._changelog.is_empty(source.topic, number):
                return False
        _warn(
            source,
            OutputError(
                reason="OffsetLost",
                doing=f"restoring the source offset of {source.artifact}",
                cause=f"it speaks of files, and {source.topic}{list(numbers)} is empty: it was deleted or emptied",
                remedy="nothing to do: the next tick pulls and emits in full; find out who deleted it (operator)",
            ),
        )
        return True

    async def _paths_in_topic(self, source: Source) -> dict[str, str]:
        """The paths that readers still have although no offset says so; none before the first pull.

        Without them a file that vanished meanwhile would stay in the compacted topic for ever.
        """
        numbers = source.record_partitions
        restored = await self._changelog.read(source.topic, numbers, lambda record: source.path_of(record.key))
        paths = {path: "" for number in numbers for path in restored[number].entries.values() if path is not None}
        if paths:
            _warn(
                source,
                OutputError(
                    reason="OffsetLost",
                    doing=f"restoring the source offset of {source.artifact}",
                    cause=f"there is none (it was reset, or its topic lost it), while {source.topic} holds "
                    f"{len(paths)} paths of it",
                    remedy="nothing to do after a reset; the next tick pulls and emits in full (nobody)",
                ),
            )
        return paths


def readable_request(record: Record) -> Request | None:
    """The request in a record, None where there is none; one that cannot be read is told of and passed over."""
    try:
        return read_request(record)
    except OutputError as error:
        _LOG.error("%s", error, extra={"reason": error.reason})
        return None


def _offset(source: Source, value: bytes | None) -> SourceOffset | None:
    if value is None:
        return None
    try:
        return read_offset(source.offset_key, value)
    except OutputError as error:
        _warn(source, error)
        return None


def _warn(source: Source, error: OutputError) -> None:
    facts = {"flow": source.flow, "source": source.name, "artifact": source.artifact, "reason": error.reason}
    _LOG.warning("%s", error, extra=facts)
