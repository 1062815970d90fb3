"""A record of any format as a file, for readers that were not told the format. Pure.

Nothing is guessed: only in `raw` is a value as long as `oci.size` says (or empty, for a reference), since every other
format adds to the content; Avro begins with a zero byte, and the envelope of `json_schema` with its schema.
"""

from connector.kafka.record import Record
from connector.records.encoder import FormatName, build_format
from connector.records.file_record import OVERSIZE, SIZE, FileRecord

_ENVELOPE = b'{"schema":'


def format_of(record: Record) -> FormatName:
    """The format that the record's value was written in; any, for a tombstone."""
    value = record.value
    if value is None:
        return "json"
    if not value or (record.header(OVERSIZE) is None and record.header(SIZE) == str(len(value))):
        return "raw"
    if value.startswith(b"\0"):
        return "avro"
    return "json_schema" if value.startswith(_ENVELOPE) else "json"


def read_file(record: Record) -> FileRecord:
    """The file a consumed record holds. Raises OutputError RecordInvalid."""
    return build_format(format_of(record)).decode(record)
