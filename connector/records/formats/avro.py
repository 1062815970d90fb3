"""`format: avro`: the record `OciFile` in the Confluent wire format, its schema in a schema registry. Pure.

The schema is `schemas/oci-file-value.avsc`; what must not be UTF-8 stands as base64, as in `json`. This version writes
and reads that one schema, so reading asks no registry.
"""

from connector.kafka.record import Record
from connector.records.avro import from_wire, to_wire, wire_size_bytes
from connector.records.document import file_of, removed_file, text_headers, undecodable
from connector.records.file_record import CONTENT_TYPE, FileRecord
from connector.records.file_text import FileText, file_text
from connector.records.formats import Encoded, Measured
from connector.records.schemas import FILE_VALUE

_HEADERS = ((CONTENT_TYPE, b"application/avro"),)


class AvroFormat:
    """Avro with the id that the registry gave. Stateless."""

    schema: str | None = FILE_VALUE

    def encode(self, file: FileRecord, schema_id: int = 0) -> Encoded:
        """Prefix and body; a tombstone has no value and no format headers."""
        if file.content is None:
            return Encoded(None, ())
        text = file_text(file.content)
        return Encoded(to_wire(FILE_VALUE, schema_id, _fields(file, text)), _HEADERS + text_headers(text))

    def measure(self, file: FileRecord) -> Measured:
        """The length of that value."""
        if file.content is None:
            return Measured(0, ())
        text = file_text(file.content)
        return Measured(wire_size_bytes(FILE_VALUE, _fields(file, text)), _HEADERS + text_headers(text))

    def decode(self, record: Record) -> FileRecord:
        """The file a consumed record holds. Raises OutputError RecordInvalid."""
        if record.value is None:
            return removed_file(record)
        try:
            return file_of(record, from_wire(FILE_VALUE, record.value))
        except ValueError as error:
            raise undecodable(record, "avro", error) from error


def _fields(file: FileRecord, text: FileText) -> dict[str, str | FileText]:
    artifact_digest = file.pull.artifact_digest
    return {"path": file.path, "content": text, "digest": file.digest, "artifact_digest": artifact_digest}


def build() -> AvroFormat:
    """The format object a source or sink uses."""
    return AvroFormat()
