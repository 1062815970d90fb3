"""A pull and its files, for tests of records."""

from typing import get_args

from connector.kafka.record import Record
from connector.records.encoder import Encoder, FormatName, HeaderStyle, build_format
from connector.records.file_key import KeyFormat
from connector.records.file_record import Change, FileRecord, PullFacts, pull_headers

FORMATS: tuple[FormatName, ...] = get_args(FormatName)
KEY_FORMATS: tuple[KeyFormat, ...] = get_args(KeyFormat)

PULL = PullFacts(
    pull_id="019e0000-0000-7000-8000-000000000000",
    artifact="registry.example.com/org/flows:prod",
    artifact_digest="sha256:" + "a" * 64,
    manifest_digest=None,
    previous_digest="sha256:" + "c" * 64,
    files=1,
    deletes=0,
)
TIME_MS = 1_795_555_555_123


def file(content: bytes | None, path: str = "flows/a.yaml", reference_bytes: int | None = None) -> FileRecord:
    """One file; a removed path where the content is None."""
    if content is None:
        return FileRecord(PULL, 0, path, None, "", "", Change.REMOVED)
    digest, media_type = "sha256:" + "b" * 64, "application/yaml"
    return FileRecord(PULL, 0, path, content, digest, media_type, Change.ADDED, reference_bytes)


def encoder(name: FormatName, key_format: KeyFormat = "string", headers: HeaderStyle = "oci") -> Encoder:
    """An encoder with ids as a registry would give them."""
    return Encoder(build_format(name), key_format, headers, value_schema_id=7, key_schema_id=258)


def as_record(encoding: Encoder, sent: FileRecord) -> Record:
    """The record as it goes over the wire."""
    key = encoding.key(sent.pull.artifact, sent.path)
    return encoding.record(sent, key, "t", 0, pull_headers(sent.pull), TIME_MS)
