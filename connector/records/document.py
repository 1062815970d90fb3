"""The four fields that json, json_schema and avro have in common, and what a record's headers add to them. Pure.

Content that is not UTF-8 stands as base64 (RFC 4648, section 4), and the header `oci.content_encoding: base64` says so.
"""

import base64
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from orjson import dumps

from connector.errors import OutputError
from connector.kafka.record import Headers, Record
from connector.records.file_record import (
    CONTENT_ENCODING,
    LAYER_DIGEST,
    MEDIA_TYPE,
    Change,
    FileRecord,
    is_end_mark,
    read_change,
    read_position,
    read_pull_facts,
    read_reference_bytes,
    split_file_key,
)
from connector.records.file_text import FileText, file_text

FIELDS = ("path", "content", "digest", "artifact_digest")


def write_document(file: FileRecord, content: bytes, before: bytes = b"", after: bytes = b"") -> tuple[bytes, Headers]:
    """The four fields in their order, between other bytes; and the header that they may need."""
    text, (head, tail) = file_text(content), _around(file)
    value = BytesIO()  # grows in place, and gives its buffer away uncopied
    value.write(before + head)
    value.writelines(text.json_pieces())
    value.write(tail + after)
    return value.getvalue(), text_headers(text)


def measure_document(file: FileRecord, content: bytes, before: bytes = b"", after: bytes = b"") -> tuple[int, Headers]:
    """How long `write_document` would be, and the header; nothing as long is made for it."""
    text, (head, tail) = file_text(content), _around(file)
    size_bytes = len(before) + len(head) + text.json_size_bytes + len(tail) + len(after)
    return size_bytes, text_headers(text)


def text_headers(text: FileText) -> Headers:
    """The header that says how the text is to be read, where it is not the content itself."""
    return ((CONTENT_ENCODING, b"base64"),) if text.is_base64 else ()


def _around(file: FileRecord) -> tuple[bytes, bytes]:
    """What stands before the content and behind it."""
    path, digest, artifact_digest = map(dumps, (file.path, file.digest, file.pull.artifact_digest))
    return b'{"path":%b,"content":"' % path, b'","digest":%b,"artifact_digest":%b}' % (digest, artifact_digest)


def compact(document: Mapping[str, Any]) -> bytes:
    """JSON without blanks, in UTF-8, non-ASCII as it is."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def parse_document(value: bytes) -> Any:
    """The JSON in a value. Raises ValueError."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError("the value is not JSON") from error


def checked_fields(document: object) -> dict[str, str]:
    """The four fields, all strings of real characters. Raises ValueError."""
    if not isinstance(document, dict) or any(not isinstance(document.get(name), str) for name in FIELDS):
        raise ValueError(f"the value is not an object with the strings {', '.join(FIELDS)}")
    fields = {name: str(document[name]) for name in FIELDS}
    for text in fields.values():
        text.encode()  # JSON can escape half a surrogate pair, which no UTF-8 holds
    return fields


def removed_file(record: Record) -> FileRecord:
    """What a tombstone says. Raises OutputError RecordInvalid."""
    _, path = split_file_key(record.key)
    return FileRecord(read_pull_facts(record), read_position(record), path, None, "", "", _change(record))


def file_of(record: Record, fields: Mapping[str, str]) -> FileRecord:
    """The file of a record whose value held these fields. Raises OutputError RecordInvalid, and ValueError."""
    _, path = split_file_key(record.key)
    if fields["path"] != path:
        raise ValueError("key and value name different paths")
    content = fields["content"].encode()
    if record.header(CONTENT_ENCODING) == "base64":
        try:
            content = base64.b64decode(content, validate=True)
        except ValueError as error:
            raise ValueError("the content is not base64, although the header says so") from error
    return file_with(record, path, content, record.header(LAYER_DIGEST) or fields["digest"])


def file_with(record: Record, path: str, content: bytes | None, digest: str) -> FileRecord:
    """The file of a record, the rest of it from the headers. Raises OutputError RecordInvalid."""
    return FileRecord(
        pull=read_pull_facts(record),
        position=read_position(record),
        path=path,
        content=content,
        digest=digest,
        media_type=record.header(MEDIA_TYPE) or "",
        change=_change(record),
        reference_bytes=read_reference_bytes(record),
    )


def undecodable(record: Record, form: str, cause: object) -> OutputError:
    """The error for a record that a format cannot read."""
    return OutputError(
        reason="RecordInvalid",
        doing=f"decoding offset {record.offset} of {record.topic}[{record.partition}] as {form}",
        cause=str(cause),
        remedy="check the flow's format, and that nobody else writes to this topic (operator)",
    )


def _change(record: Record) -> Change:
    # An end mark is no file; the word only fills the field.
    return Change.UNCHANGED if is_end_mark(record) else read_change(record)
