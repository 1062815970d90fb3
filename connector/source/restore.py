"""What a new owner of a partition must know before its sources tick: the offsets, and the paths readers have."""

import logging
from collections.abc import Mapping, Sequence

from msgspec import Struct

from connector.errors import OutputError
from connector.kafka.changelog import Changelog
from connector.kafka.record import Record
from connector.records.request import Request, read_request, split_request_key
from connector.records.source_offset import SourceOffset, read_offset
from connector.source.source import Source

_LOG = logging.getLogger(__name__)


class RestoredSources(Struct, frozen=True):
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
        empty = await self._empty_partitions(sources)
        without: list[Source] = []
        for source in sources:
            record = held.get(source.offset_key)
            offset = None if record is None else _offset(source, record.value)
            if offset is not None and offset.files and empty.issuperset(_places(source)):
                _warn(source, _emptied(source))
                offset = None
            if offset is None:
                without.append(source)
            else:
                offsets[source.offset_key] = offset
                known_paths[source.offset_key] = offset.paths
        known_paths.update(await self._paths_in_topics(without, empty))
        requests = tuple(request for record in held.values() if (request := readable_request(record)) is not None)
        return RestoredSources(restored[partition].position, offsets, known_paths, requests)

    async def _empty_partitions(self, sources: Sequence[Source]) -> frozenset[tuple[str, int]]:
        """The partitions of layer topics that hold nothing, each asked about once for all sources in it."""
        places = sorted({place for source in sources for place in _places(source)})
        return frozenset([place for place in places if await self._changelog.is_empty(*place)])

    async def _paths_in_topics(
        self, sources: Sequence[Source], empty: frozenset[tuple[str, int]]
    ) -> dict[bytes, dict[str, str]]:
        """By offset key: the paths that readers still have although no offset says so; none before the first pull.

        Without them a file that vanished meanwhile would stay in the compacted topic for ever. A topic is read once for
        all sources in it, keys only.
        """
        found: dict[bytes, dict[str, str]] = {source.offset_key: {} for source in sources}
        needed = sorted({place for source in sources for place in _places(source)} - empty)
        for topic, number in needed:
            restored = await self._changelog.read(topic, [number], lambda record: record.key)
            for source in sources:
                if (topic, number) in _places(source):
                    paths = map(source.path_of, restored[number].entries.values())
                    found[source.offset_key].update({path: "" for path in paths if path is not None})
        for source in sources:
            if paths_held := found[source.offset_key]:
                _warn(source, _without_offset(source, len(paths_held)))
        return found


def _places(source: Source) -> frozenset[tuple[str, int]]:
    return frozenset((source.topic, number) for number in source.record_partitions)


def _emptied(source: Source) -> OutputError:
    """The digest would stand for ever, and readers of a topic that was made anew would get nothing."""
    return OutputError(
        reason="OffsetLost",
        doing=f"restoring the source offset of {source.artifact}",
        cause=f"it speaks of files, and {source.topic}{list(source.record_partitions)} is empty: it was deleted or "
        "emptied",
        remedy="nothing to do: the next tick pulls and emits in full; find out who deleted it (operator)",
    )


def _without_offset(source: Source, paths: int) -> OutputError:
    return OutputError(
        reason="OffsetLost",
        doing=f"restoring the source offset of {source.artifact}",
        cause=f"there is none (it was reset, or its topic lost it), while {source.topic} holds {paths} paths of it",
        remedy="nothing to do after a reset; the next tick pulls and emits in full (nobody)",
    )


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
