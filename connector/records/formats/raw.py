"""`format: raw`: the file's own bytes are the value; all facts stand in the headers. Pure.

A file of no bytes is a value of length 0, a removed path is a null value.
"""

from connector.kafka.record import Record
from connector.records.file_record import (
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

_OCTETS = "application/octet-stream"


class RawFormat:
    """Bytes as they are. Stateless."""

    def encode(self, file: FileRecord) -> Encoded:
        """The content itself; `content-type` is the layer's media type where it has one."""
        if file.content is None:
            return Encoded(None, ())
        return Encoded(file.content, ((CONTENT_TYPE, (file.media_type or _OCTETS).encode()),))

    def decode(self, record: Record) -> FileRecord:
        """The file a consumed record holds. Raises OutputError RecordInvalid."""
        _, path = split_file_key(record.key)
        return FileRecord(
            pull=read_pull_facts(record),
            position=read_position(record),
            path=path,
            content=record.value,
            digest=record.header(LAYER_DIGEST) or "",
            media_type=record.header(MEDIA_TYPE) or "",
            change=read_change(record),
        )


def build() -> RawFormat:
    """The format object a source or sink uses."""
    return RawFormat()
