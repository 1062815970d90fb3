"""`format: json`: `{"path", "content", "digest", "artifact_digest"}`, all strings, in this order. Pure.

Content that is not UTF-8 stands as base64 (RFC 4648, section 4), and the header `oci.content_encoding: base64` says so.
"""

import base64
import json

from connector.errors import OutputError
from connector.kafka.record import Headers, Record
from connector.records.file_record import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    LAYER_DIGEST,
    MEDIA_TYPE,
    FileRecord,
    read_change,
    read_position,
    read_pull_facts,
    split_file_key,
)
from connector.records.formats import Encoded

_JSON_HEADERS = ((CONTENT_TYPE, b"application/json"),)
_BASE64_HEADERS = (*_JSON_HEADERS, (CONTENT_ENCODING, b"base64"))
_FIELDS = ("path", "content", "digest", "artifact_digest")


class JsonFormat:
    """The default format. Stateless."""

    def encode(self, file: FileRecord) -> Encoded:
        """Compact JSON in UTF-8, non-ASCII as it is; a tombstone has no value and no format headers."""
        if file.content is None:
            return Encoded(None, ())
        try:
            content = file.content.decode("utf-8")
            headers: Headers = _JSON_HEADERS
        except UnicodeDecodeError:
            content = base64.b64encode(file.content).decode("ascii")
            headers = _BASE64_HEADERS
        document = {
            "path": file.path,
            "content": content,
            "digest": file.digest,
            "artifact_digest": file.pull.artifact_digest,
        }
        return Encoded(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), headers)

    def decode(self, record: Record) -> FileRecord:
        """The file a consumed record holds. Raises OutputError RecordInvalid."""
        pull = read_pull_facts(record)
        position = read_position(record)
        change = read_change(record)
        _, path = split_file_key(record.key)
        if record.value is None:
            return FileRecord(pull, position, path, None, "", "", change)
        document = _document(record)
        content = document["content"].encode()
        if record.header(CONTENT_ENCODING) == "base64":
            try:
                content = base64.b64decode(content, validate=True)
            except ValueError as error:
                raise _invalid(record, "the content is not base64, although the header says so") from error
        return FileRecord(
            pull=pull,
            position=position,
            path=document["path"],
            content=content,
            digest=record.header(LAYER_DIGEST) or document["digest"],
            media_type=record.header(MEDIA_TYPE) or "",
            change=change,
        )


def build() -> JsonFormat:
    """The format object a source or sink uses."""
    return JsonFormat()


def _document(record: Record) -> dict[str, str]:
    try:
        document = json.loads(record.value or b"")
    except (ValueError, RecursionError) as error:
        raise _invalid(record, "the value is not JSON") from error
    if not isinstance(document, dict) or any(not isinstance(document.get(name), str) for name in _FIELDS):
        raise _invalid(record, f"the value is not an object with the strings {', '.join(_FIELDS)}")
    return {name: document[name] for name in _FIELDS}


def _invalid(record: Record, cause: str) -> OutputError:
    return OutputError(
        reason="RecordInvalid",
        doing=f"decoding offset {record.offset} of {record.topic}[{record.partition}] as json",
        cause=cause,
        remedy="check the flow's format, and that nobody else writes to this topic (operator)",
    )
