"""`format: json`: `{"path", "content", "digest", "artifact_digest"}`, all strings, in this order. Pure.

Content that is not UTF-8 stands as base64 (RFC 4648, section 4), and the header `oci.content_encoding: base64` says so.
"""

from connector.kafka.record import Record
from connector.records.document import (
    checked_fields,
    file_of,
    measure_document,
    parse_document,
    removed_file,
    undecodable,
    write_document,
)
from connector.records.file_record import CONTENT_TYPE, FileRecord
from connector.records.formats import Encoded, Measured

_HEADERS = ((CONTENT_TYPE, b"application/json"),)


class JsonFormat:
    """The default format. Stateless."""

    schema: str | None = None

    def encode(self, file: FileRecord, schema_id: int = 0) -> Encoded:
        """Compact JSON in UTF-8, non-ASCII as it is; a tombstone has no value and no format headers."""
        if file.content is None:
            return Encoded(None, ())
        value, headers = write_document(file, file.content)
        return Encoded(value, _HEADERS + headers)

    def measure(self, file: FileRecord) -> Measured:
        """The length of that value."""
        if file.content is None:
            return Measured(0, ())
        size_bytes, headers = measure_document(file, file.content)
        return Measured(size_bytes, _HEADERS + headers)

    def decode(self, record: Record) -> FileRecord:
        """The file a consumed record holds. Raises OutputError RecordInvalid."""
        if record.value is None:
            return removed_file(record)
        try:
            return file_of(record, checked_fields(parse_document(record.value)))
        except ValueError as error:
            raise undecodable(record, "json", error) from error


def build() -> JsonFormat:
    """The format object a source or sink uses."""
    return JsonFormat()
