"""Value formats: how a file becomes a record's value. One file a format; its name is the word in the flow file.

Each module has a `build() -> Format`. Formats hold no state: the id that a schema registry gave is handed in.
"""

from typing import Protocol

from msgspec import Struct

from connector.kafka.record import Headers, Record
from connector.records.file_record import FileRecord


class Encoded(Struct, frozen=True):
    """A record's value and the headers that the format adds to the `oci.*` ones."""

    value: bytes | None
    headers: Headers


class Measured(Struct, frozen=True):
    """How long a record's value is, 0 where it has none, and the headers of the format; nothing as long was made."""

    value_bytes: int
    headers: Headers


class Format(Protocol):
    """What a format module offers: an object made by its `build`."""

    schema: str | None
    """The Avro schema (a name of `records/schemas.py`) whose id `encode` wants; None where it wants none."""

    def encode(self, file: FileRecord, schema_id: int = 0) -> Encoded:
        """The value (None for a tombstone) and the format's own headers. Pure."""
        ...

    def measure(self, file: FileRecord) -> Measured:
        """What `encode` would make, by its length. Pure."""
        ...

    def decode(self, record: Record) -> FileRecord:
        """The inverse of encode; a commit record is a file without path. Raises OutputError RecordInvalid."""
        ...
