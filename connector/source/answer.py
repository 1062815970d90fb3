"""Carry out what is asked of a source: the effect and the answer to the request in one fenced transaction."""

import logging
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from connector.errors import OutputError
from connector.kafka.record import Record
from connector.kafka.transaction import Writes
from connector.records.request import Request, RequestKind, done_record
from connector.records.source_offset import SourceOffset, offset_value

_LOG = logging.getLogger(__name__)


async def answer(
    transactions: Writes,
    offsets_topic: str,
    partition: int,
    request: Request,
    effect: Sequence[Record],
    position: int,
    limits: Mapping[str, int | None],
) -> None:
    """Commit the effect and the tombstone of the request. Raises OutputError; then the request waits on."""
    await transactions.commit(effect, done_record(offsets_topic, partition, request), position, limits)
    _LOG.info(
        "carried out %s as %s asked", request.kind.value, request.by,
        extra={"flow": request.flow, "artifact": request.artifact, "request_id": request.id},
    )  # fmt: skip


def offset_effect(offsets_topic: str, partition: int, request: Request, offset: SourceOffset | None) -> Record:
    """The source offset as asked for; None is its tombstone: forget, pull again."""
    return Record(offsets_topic, partition, request.offset_key, None if offset is None else offset_value(offset))


def asked_offset(
    request: Request, previous: SourceOffset | None, known_paths: Mapping[str, str], settings: str | None
) -> SourceOffset | None:
    """The offset that a reset (None) or a set asks for; what is not asked about stays as it was. Pure.

    `settings` is the fingerprint of the source, None where nobody here knows it: an offset without one would be pulled
    again at once. Raises OutputError OffsetLost for a set that has neither an offset to change nor settings.
    """
    if request.kind is RequestKind.RESET or request.digest is None:
        return None
    if previous is not None:
        return replace(previous, digest=request.digest, manifest_digest=request.digest, committed_at=request.at)
    if settings is None:
        raise OutputError(
            reason="OffsetLost",
            doing=f"setting the source offset of {request.artifact} in flow {request.flow}",
            cause="there is none to change, and only a worker with the flow knows the settings that belong into one",
            remedy="start the worker, then ask again (operator)",
        )
    return SourceOffset(
        artifact=request.artifact,
        digest=request.digest,
        manifest_digest=request.digest,
        media_type="",
        pull_id=request.id,
        previous_digest=None,
        files=len(known_paths),
        deletes=0,
        bytes=0,
        committed_at=request.at,
        worker=request.by,
        settings=settings,
        paths=known_paths,
    )
