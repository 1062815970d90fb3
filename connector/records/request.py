"""Requests to the owner of a source, kept in the offsets topic: they outlive restarts and reach whoever owns it. Pure.

Rules. (1) A request lies in the partition of the source's offset, so the owner sees it, whichever worker that is.
(2) `trigger`, `reset` and `set` are done once: the owner writes a tombstone for the request when they are, for `reset`
and `set` in the transaction of their effect. (3) `pause` stands until somebody writes its tombstone, which is `resume`.
(4) Writing a request needs no fence: it changes nothing until the owner acts on it.
"""

import json
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import asdict

from connector.errors import OutputError
from connector.kafka.record import Record, partition_for
from connector.records.source_offset import moment_ms, offset_key, split_offset_key

REQUEST_PREFIX = b"request."


class RequestKind(StrEnum):
    """What is asked."""

    TRIGGER = "trigger"
    PAUSE = "pause"
    RESET = "reset"
    SET = "set"


class Request(Struct, frozen=True):
    """One request. `id` is unique; `at` is in ms; `force` makes a trigger pull although nothing changed."""

    kind: RequestKind
    flow: str
    artifact: str
    id: str
    at: int
    by: str
    digest: str | None = None
    force: bool = False

    @property
    def key(self) -> bytes:
        """The key of its record: one request of a kind and source at a time."""
        return request_key(self.kind, self.flow, self.artifact)

    @property
    def offset_key(self) -> bytes:
        """The key of the source offset it speaks of."""
        return offset_key(self.flow, self.artifact)


def request_key(kind: RequestKind, flow: str, artifact: str) -> bytes:
    """`request.<kind>.flow.<flow>.oci_digest.<artifact>`."""
    return REQUEST_PREFIX + f"{kind}.".encode() + offset_key(flow, artifact)


def request_record(topic: str, partitions: int, request: Request) -> Record:
    """The request as a record of the offsets topic, in the partition of the source's offset."""
    document = {name: value for name, value in asdict(request).items() if name not in ("kind", "flow", "artifact")}
    value = json.dumps(document, separators=(",", ":")).encode()
    return Record(topic, partition_for(request.offset_key, partitions), request.key, value)


def done_record(topic: str, partition: int, request: Request) -> Record:
    """The tombstone that says that the request was carried out, or is taken back."""
    return Record(topic, partition, request.key, None)


def split_request_key(key: bytes) -> tuple[RequestKind, str, str] | None:
    """Kind, flow and artifact of a request's key; None for the other records of the offsets topic."""
    if not key.startswith(REQUEST_PREFIX):
        return None
    word, _, rest = key.removeprefix(REQUEST_PREFIX).decode("utf-8", "replace").partition(".")
    name = split_offset_key(rest.encode())
    if name is None or word not in RequestKind._value2member_map_:
        return None
    return RequestKind(word), *name


def read_request(record: Record) -> Request | None:
    """The request in a record, None for a tombstone or another kind of record. Raises OutputError RecordInvalid."""
    name = split_request_key(record.key)
    if name is None or record.value is None:
        return None
    try:
        document = json.loads(record.value)
        digest = document.get("digest")
        return Request(
            *name,
            id=str(document["id"]),
            at=moment_ms(int(document["at"])),
            by=str(document["by"]),
            digest=None if digest is None else str(digest),
            force=document.get("force") is True,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise OutputError(
            reason="RecordInvalid",
            doing=f"reading the request {record.key.decode('utf-8', 'replace')}",
            cause=f"its value cannot be used ({type(error).__name__})",
            remedy="ask again by the command: oci-sync trigger, pause, resume, offsets reset (operator)",
        ) from error
