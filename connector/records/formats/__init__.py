"""Value formats: how a file becomes a record's value. One file a format; its name is the word in the flow file.

Each module has `encode(file: FileRecord, headers: Headers) -> Record-less pair` as given by the Format protocol.
"""

from dataclasses import dataclass
from typing import Protocol

from connector.kafka.record import Headers, Record
from connector.records.file_record import FileRecord


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record's value and the headers that the format adds to the `oci.*` ones."""

    value: bytes | None
    headers: Headers


class Format(Protocol):
    """What a format module offers: an object made by its `build`."""

    def encode(self, file: FileRecord) -> Encoded:
        """The value (None for a tombstone) and the format's own headers. Pure."""
        ...

    def decode(self, record: Record) -> FileRecord:
        """The inverse of encode. Raises OutputError RecordInvalid."""
        ...
