"""One file of one snapshot as a Kafka record, and back. Pure.

Rules (contract 1 of the design). (1) The key is `<artifact as configured>#<path>`, UTF-8, unless the task has another
`key_format` (file_key.py); its bytes never change between formats. (2) A tombstone means: this path is not in the
newest snapshot. (3) Files come first, tombstones after, then commit records, where the task has them; `oci.position`
counts through all. (4) A snapshot is complete for a reader of state when it has seen `oci.files` distinct positions
below `oci.files` of one `oci.pull_id`.
"""

from enum import StrEnum

from msgspec import Struct

from connector.errors import OutputError
from connector.kafka.record import Headers, Record
from connector.records.file_key import decode_file_key, encode_file_key

PULL_ID = "oci.pull_id"
POSITION = "oci.position"
FILES = "oci.files"
DELETES = "oci.deletes"
CHANGE = "oci.change"
ARTIFACT = "oci.artifact"
ARTIFACT_DIGEST = "oci.artifact_digest"
PREVIOUS_DIGEST = "oci.previous_digest"
MANIFEST_DIGEST = "oci.manifest_digest"
LAYER_DIGEST = "oci.layer_digest"
MEDIA_TYPE = "oci.media_type"
SIZE = "oci.size"
CONTENT_ENCODING = "oci.content_encoding"
CONTENT_TYPE = "content-type"
KIND = "oci.kind"
OVERSIZE = "oci.oversize"


class Change(StrEnum):
    """What happened to a path since the last committed snapshot."""

    ADDED = "added"
    MODIFIED = "modified"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


class PullFacts(Struct, frozen=True):
    """What every record of one pull says of the pull.

    `artifact` is the reference as configured; `manifest_digest` is set where the reference is an index;
    `files` and `deletes` count the live records and the tombstones of this pull.
    """

    pull_id: str
    artifact: str
    artifact_digest: str
    manifest_digest: str | None
    previous_digest: str | None
    files: int
    deletes: int


class FileRecord(Struct, frozen=True):
    """One file of one pull, or one removed path (`content` None, `change` REMOVED, no digest).

    `digest` is the layer blob's. `reference_bytes` is the size of a file that was too large for Kafka (`oversize:
    reference`): its `content` is empty then, and stands in the layer only. A commit record has an empty `path`.
    """

    pull: PullFacts
    position: int
    path: str
    content: bytes | None
    digest: str
    media_type: str
    change: Change
    reference_bytes: int | None = None

    @property
    def is_end_mark(self) -> bool:
        """Whether this is no file but the commit record of its pull."""
        return not self.path


class Snapshot(Struct, frozen=True):
    """All files of one pull, whole and in the order of their positions; what the sink half works on.

    `files` holds no tombstones. `removed` lists the paths whose tombstones of the same pull were seen too: a hint,
    since compaction may have dropped some.
    """

    pull: PullFacts
    files: tuple[FileRecord, ...]
    removed: tuple[str, ...] = ()


def file_key(artifact: str, path: str) -> bytes:
    """The record key of one path: `<artifact>#<path>`; the first `#` splits it again."""
    return encode_file_key("string", artifact, path)


def split_file_key(key: bytes) -> tuple[str, str]:
    """Artifact and path of a record key in any key format. Raises OutputError RecordInvalid."""
    try:
        return decode_file_key(key)
    except ValueError as error:
        raise OutputError(
            reason="RecordInvalid",
            doing="reading a record's key",
            cause=f"{key[:80]!r} is not '<artifact>#<path>' in UTF-8, nor another key format",
            remedy="another producer writes to this topic; give the flow a topic of its own (operator)",
        ) from error


def pull_headers(pull: PullFacts) -> Headers:
    """The headers that all records of one pull share, in their fixed order."""
    pairs = [
        (PULL_ID, pull.pull_id),
        (FILES, str(pull.files)),
        (DELETES, str(pull.deletes)),
        (ARTIFACT, pull.artifact),
        (ARTIFACT_DIGEST, pull.artifact_digest),
        (PREVIOUS_DIGEST, pull.previous_digest),
        (MANIFEST_DIGEST, pull.manifest_digest),
    ]
    return tuple((name, value.encode()) for name, value in pairs if value is not None)


def file_headers(file: FileRecord, shared: Headers) -> Headers:
    """All `oci.*` headers of one record; `shared` is what `pull_headers` made once for the pull."""
    own: list[tuple[str, bytes]] = [(POSITION, b"%d" % file.position)]
    if file.is_end_mark:
        own.append((KIND, b"commit"))
        own.append((SIZE, b"%d" % len(file.content or b"")))
        return shared + tuple(own)
    own.append((CHANGE, file.change.value.encode()))
    if file.content is not None:
        size = len(file.content) if file.reference_bytes is None else file.reference_bytes
        own.append((LAYER_DIGEST, file.digest.encode()))
        own.append((MEDIA_TYPE, file.media_type.encode()))
        own.append((SIZE, b"%d" % size))
    if file.reference_bytes is not None:
        own.append((OVERSIZE, b"reference"))
    return shared + tuple(own)


def read_pull_facts(record: Record) -> PullFacts:
    """The pull a consumed record belongs to. Raises OutputError RecordInvalid."""
    try:
        return PullFacts(
            pull_id=_text(record, PULL_ID),
            artifact=_text(record, ARTIFACT),
            artifact_digest=_text(record, ARTIFACT_DIGEST),
            manifest_digest=record.header(MANIFEST_DIGEST),
            previous_digest=record.header(PREVIOUS_DIGEST),
            files=_count(record, FILES),
            deletes=_count(record, DELETES),
        )
    except ValueError as error:
        raise _invalid(record, str(error)) from error


def read_position(record: Record) -> int:
    """The record's 0-based place in its pull. Raises OutputError RecordInvalid."""
    try:
        return _count(record, POSITION)
    except ValueError as error:
        raise _invalid(record, str(error)) from error


def read_change(record: Record) -> Change:
    """What happened to the record's path. Raises OutputError RecordInvalid."""
    try:
        return Change(_text(record, CHANGE))
    except ValueError as error:
        raise _invalid(record, str(error)) from error


def read_reference_bytes(record: Record) -> int | None:
    """The size of a file whose content stayed in its layer; None for every other record.

    Raises OutputError RecordInvalid.
    """
    if record.header(OVERSIZE) != "reference":
        return None
    try:
        return _count(record, SIZE)
    except ValueError as error:
        raise _invalid(record, str(error)) from error


def is_end_mark(record: Record) -> bool:
    """Whether a consumed record is the commit record of its pull, and no file."""
    return record.header(KIND) == "commit"


def _text(record: Record, name: str) -> str:
    value = record.header(name)
    if value is None:
        raise ValueError(f"header {name} is missing")
    return value


def _count(record: Record, name: str) -> int:
    value = _text(record, name)
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise ValueError(f"header {name} is {value[:40]!r}, not a count")
    return int(value)


def _invalid(record: Record, cause: str) -> OutputError:
    return OutputError(
        reason="RecordInvalid",
        doing=f"reading offset {record.offset} of {record.topic}[{record.partition}]",
        cause=cause,
        remedy="another producer writes to this topic; give the flow a topic of its own (operator)",
    )
