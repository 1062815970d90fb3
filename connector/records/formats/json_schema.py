"""`format: json_schema`: `{"schema": …, "payload": …}`, the envelope of Kafka Connect's JsonConverter. Pure.

The payload is that of `json`. For Connect sinks that want a schema and have no registry: `value.converter` =
`org.apache.kafka.connect.json.JsonConverter` with `schemas.enable=true`, which is its default.
"""

from connector.kafka.record import Record
from connector.records.document import (
    FIELDS,
    checked_fields,
    compact,
    file_of,
    measure_document,
    parse_document,
    removed_file,
    undecodable,
    write_document,
)
from connector.records.file_record import CONTENT_TYPE, FileRecord
from connector.records.formats import Encoded, Measured
from connector.records.schemas import FILE_VALUE, record_name

_END = b"}"
_HEADERS = ((CONTENT_TYPE, b"application/json"),)


class JsonSchemaFormat:
    """The envelope: a constant prefix, the document, a brace. Stateless."""

    schema: str | None = None

    def __init__(self) -> None:
        schema = {
            "type": "struct",
            "fields": [{"type": "string", "optional": False, "field": name} for name in FIELDS],
            "optional": False,
            "name": record_name(FILE_VALUE),
        }
        self._prefix = b'{"schema":' + compact(schema) + b',"payload":'

    def encode(self, file: FileRecord, schema_id: int = 0) -> Encoded:
        """The document of `json` in its envelope; a tombstone has no value and no format headers."""
        if file.content is None:
            return Encoded(None, ())
        value, headers = write_document(file, file.content, self._prefix, _END)
        return Encoded(value, _HEADERS + headers)

    def measure(self, file: FileRecord) -> Measured:
        """The length of that value."""
        if file.content is None:
            return Measured(0, ())
        size_bytes, headers = measure_document(file, file.content, self._prefix, _END)
        return Measured(size_bytes, _HEADERS + headers)

    def decode(self, record: Record) -> FileRecord:
        """The file a consumed record holds. Raises OutputError RecordInvalid."""
        if record.value is None:
            return removed_file(record)
        try:
            envelope = parse_document(record.value)
            payload = envelope.get("payload") if isinstance(envelope, dict) else None
            return file_of(record, checked_fields(payload))
        except ValueError as error:
            raise undecodable(record, "json_schema", error) from error


def build() -> JsonSchemaFormat:
    """The format object a source or sink uses."""
    return JsonSchemaFormat()
