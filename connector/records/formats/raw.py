"""`format: raw`: the file's own bytes are the value; all facts stand in the headers. Pure.

A file of no bytes is a value of length 0, a removed path is a null value.
"""

from connector.kafka.record import Headers, Record
from connector.records.document import file_with
from connector.records.file_record import CONTENT_TYPE, LAYER_DIGEST, FileRecord, split_file_key
from connector.records.formats import Encoded, Measured

_OCTETS = "application/octet-stream"


class RawFormat:
    """Bytes as they are. Stateless."""

    schema: str | None = None

    def encode(self, file: FileRecord, schema_id: int = 0) -> Encoded:
        """The content itself; `content-type` is the layer's media type where it has one."""
        if file.content is None:
            return Encoded(None, ())
        return Encoded(file.content, _headers(file))

    def measure(self, file: FileRecord) -> Measured:
        """The length of the content."""
        return Measured(0, ()) if file.content is None else Measured(len(file.content), _headers(file))

    def decode(self, record: Record) -> FileRecord:
        """The file a consumed record holds. Raises OutputError RecordInvalid."""
        _, path = split_file_key(record.key)
        return file_with(record, path, record.value, record.header(LAYER_DIGEST) or "")


def _headers(file: FileRecord) -> Headers:
    return ((CONTENT_TYPE, (file.media_type or _OCTETS).encode()),)


def build() -> RawFormat:
    """The format object a source or sink uses."""
    return RawFormat()
