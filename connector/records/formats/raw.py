"""`format: raw`: the file's own bytes are the value; all facts stand in the headers. Pure.

A file of no bytes is a value of length 0, a removed path is a null value.
"""

from connector.kafka.record import Record
from connector.records.document import file_with
from connector.records.file_record import CONTENT_TYPE, LAYER_DIGEST, FileRecord, split_file_key
from connector.records.formats import Encoded

_OCTETS = "application/octet-stream"


class RawFormat:
    """Bytes as they are. Stateless."""

    schema: str | None = None

    def encode(self, file: FileRecord, schema_id: int = 0) -> Encoded:
        """The content itself; `content-type` is the layer's media type where it has one."""
        if file.content is None:
            return Encoded(None, ())
        return Encoded(file.content, ((CONTENT_TYPE, (file.media_type or _OCTETS).encode()),))

    def value_size_bytes(self, file: FileRecord) -> int:
        """The length of the content."""
        return len(file.content or b"")

    def decode(self, record: Record) -> FileRecord:
        """The file a consumed record holds. Raises OutputError RecordInvalid."""
        _, path = split_file_key(record.key)
        return file_with(record, path, record.value, record.header(LAYER_DIGEST) or "")


def build() -> RawFormat:
    """The format object a source or sink uses."""
    return RawFormat()
