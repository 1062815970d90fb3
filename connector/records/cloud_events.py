"""`headers: cloudevents`: every record, tombstones too, is a CloudEvent 1.0 in Kafka's binary mode. Pure.

The `ce_*` headers stand beside the `oci.*` ones. A tombstone is an event without data, which the binding allows. Its
`ce_type` is the file's: `oci.change` tells what happened to it.
"""

from datetime import UTC, datetime

from connector.kafka.record import Headers
from connector.records.file_record import FileRecord

_FILE_TYPE = b"io.ocisync.file.v1"
_COMMIT_TYPE = b"io.ocisync.commit.v1"


def cloud_event_headers(file: FileRecord, time_ms: int) -> Headers:
    """The attributes of the event; `ce_source` and `ce_id` together name it for ever."""
    when = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    headers: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_type", _COMMIT_TYPE if file.is_end_mark else _FILE_TYPE),
        ("ce_source", f"oci://{file.pull.artifact}".encode()),
        ("ce_id", f"{file.pull.pull_id}-{file.position}".encode()),
        ("ce_time", when.encode()),
    )
    # An attribute that is there must not be empty.
    return headers if file.is_end_mark else (*headers, ("ce_subject", file.path.encode()))
