"""The source offset: what is needed to go on from the last committed snapshot, as a record and back. Pure.

Rules (contract 2 of the design). (1) It is written in the transaction of the records it speaks of. (2) A tombstone
means: forget, pull again. (3) `settings` is a fingerprint of what shapes the records; when it differs, the next tick
pulls although the digest stands. (4) `paths` maps each path to a short hash of its content, for tombstones and for
`oci.change`: 96 bits of SHA-256, so that the offset of 10,000 files stays below 1 MB.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct, field
from msgspec.structs import asdict

from connector.errors import OutputError
from connector.kafka.record import Record, partition_for

T = TypeVar("T")

VERSION = 1
_YEAR_3000_MS = 32_503_680_000_000
_HASH_HEX_DIGITS = 24


class SourceOffset(Struct, frozen=True):
    """State of one source after its last committed pull. `digest` is what HEAD showed; `committed_at` is in ms.

    `manifest_digest` differs from `digest` where the reference is an index.
    """

    artifact: str
    digest: str
    manifest_digest: str
    media_type: str
    pull_id: str
    previous_digest: str | None
    files: int
    deletes: int
    bytes: int
    committed_at: int
    worker: str
    settings: str
    paths: Mapping[str, str] = field(default_factory=dict)


def offset_key(flow: str, artifact: str) -> bytes:
    """The key of a source's offset: `flow.<flow>.oci_digest.<artifact>`."""
    return f"flow.{flow}.oci_digest.{artifact}".encode()


def split_offset_key(key: bytes) -> tuple[str, str] | None:
    """Flow and artifact of an offset's key; None for the other records of the offsets topic.

    A flow's name holds no dot-enclosed `oci_digest`, so the first `.oci_digest.` splits.
    """
    text = key.decode("utf-8", "replace")
    if not text.startswith("flow."):
        return None
    flow, separator, artifact = text.removeprefix("flow.").partition(".oci_digest.")
    return (flow, artifact) if separator else None


def offset_record(topic: str, partitions: int, flow: str, offset: SourceOffset) -> Record:
    """The offset as a record of the offsets topic, in the partition of its key."""
    key = offset_key(flow, offset.artifact)
    return Record(topic, partition_for(key, partitions), key, offset_value(offset))


def offset_value(offset: SourceOffset) -> bytes:
    """The offset as it stands in its record: compact JSON."""
    document = {"version": VERSION, **asdict(offset)}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def read_offset(key: bytes, value: bytes) -> SourceOffset:
    """The inverse of offset_record. Unknown fields are left out. Raises OutputError OffsetInvalid."""
    try:
        document = json.loads(value)
        if document["version"] != VERSION:
            raise ValueError(f"its version is {document['version']!r}, this worker reads {VERSION}")
        return SourceOffset(
            artifact=_typed(document, "artifact", str),
            digest=_typed(document, "digest", str),
            manifest_digest=_typed(document, "manifest_digest", str),
            media_type=_typed(document, "media_type", str),
            pull_id=_typed(document, "pull_id", str),
            previous_digest=document.get("previous_digest"),
            files=_typed(document, "files", int),
            deletes=_typed(document, "deletes", int),
            bytes=_typed(document, "bytes", int),
            committed_at=moment_ms(_typed(document, "committed_at", int)),
            worker=_typed(document, "worker", str),
            settings=_typed(document, "settings", str),
            paths={str(path): str(short) for path, short in _typed(document, "paths", dict).items()},
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(
            reason="OffsetInvalid",
            doing=f"reading the source offset {key.decode('utf-8', 'replace')}",
            cause=f"the record cannot be used: {error}",
            remedy="oci-sync offsets reset, so that the next tick pulls again (operator)",
        ) from error


def short_hash(sha256_hex: str) -> str:
    """The part of a content hash that the offset keeps."""
    return sha256_hex[:_HASH_HEX_DIGITS]


def settings_fingerprint(settings: Mapping[str, object]) -> str:
    """A short hash of the settings that shape the records; the order of names does not matter."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def moment_ms(value: int) -> int:
    """The milliseconds, if they are a date; another program may have written nanoseconds. Raises ValueError."""
    if not 0 <= value < _YEAR_3000_MS:
        raise ValueError(f"{value!r:.40} is no time in milliseconds")
    return value


def _typed(document: dict[str, object], name: str, kind: type[T]) -> T:
    value = document[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r:.40}, not {kind.__name__}")
    return value
