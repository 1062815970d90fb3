"""`oversize`: what becomes of files whose records are larger than the topic takes."""

import logging
from collections.abc import Collection, Sequence

from msgspec import Struct

from connector.errors import LayerError
from connector.records.encoder import Encoder
from connector.records.file_record import Change, PullFacts
from connector.source.changes import FileChange
from connector.source.release import Release
from connector.source.source import Source

_LOG = logging.getLogger(__name__)

_LONGEST_DIGEST = "sha512:" + "0" * 128
_LONGEST_PULL_ID = "0" * 36
_LONGEST_TRACEPARENT = "0" * 55


class Fitted(Struct, frozen=True):
    """What is left of a pull, and the paths whose content stays in its layer."""

    changes: Sequence[FileChange]
    by_reference: frozenset[str] = frozenset()


def fit(source: Source, changes: Sequence[FileChange], encoder: Encoder, limit_bytes: int | None) -> Fitted:
    """The pull with every file in a record that the topic takes; None: no limit is known, or none is of interest.

    Raises LayerError EmptyArtifact where nothing would be left. A tombstone that is too large stays, and is an error
    of the commit: leaving it out would leave its file with readers for ever.
    """
    if limit_bytes is None:
        return Fitted(changes)
    # As wide as these records could get: what is left out makes counts and positions shorter, deletes longer.
    digest, count = _LONGEST_DIGEST, 10 * len(changes)
    widest = PullFacts(_LONGEST_PULL_ID, source.artifact, digest, digest, digest, count, count)
    large = Release(source, widest, changes, encoder, _LONGEST_TRACEPARENT, 0).beyond(limit_bytes)
    if not large:
        return Fitted(changes)
    done = "sent by reference" if source.oversize == "reference" else "left out"
    names = ", ".join(sorted(large)[:5]) + (", …" if len(large) > 5 else "")
    _LOG.warning(
        "%d files are too large for topic %s (max.message.bytes=%d) and are %s: %s",
        len(large), source.topic, limit_bytes, done, names,
        extra={"artifact": source.artifact, "flow": source.flow, "source": source.name},
    )  # fmt: skip
    if source.oversize == "reference":
        return Fitted(changes, large)
    left = leave_out(changes, large)
    if all(entry.file is None for entry in left) and not source.options.allow_empty:
        raise _nothing_left(source, limit_bytes)
    return Fitted(left)


def leave_out(changes: Sequence[FileChange], paths: Collection[str]) -> tuple[FileChange, ...]:
    """The changes without the files of these paths: as if the artifact had not got them. Pure.

    So a path that the last snapshot had is removed now, for its old content would be a lie; a new one never was.
    """
    gone = [entry for entry in changes if entry.path in paths]
    files = [entry for entry in changes if entry.file is not None and entry.path not in paths]
    removed = [entry for entry in changes if entry.file is None]
    removed += [FileChange(entry.path, Change.REMOVED, None) for entry in gone if entry.change is not Change.ADDED]
    return (*files, *sorted(removed, key=lambda entry: entry.path))


def _nothing_left(source: Source, limit_bytes: int) -> LayerError:
    return LayerError(
        reason="EmptyArtifact",
        doing=f"leaving out what is too large for topic {source.topic} (max.message.bytes={limit_bytes})",
        cause=f"every file of {source.artifact} is, and without files every reader would be emptied",
        remedy="raise max.message.bytes of the topic, or set 'allow_empty' if that is meant (operator)",
    )
