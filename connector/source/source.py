"""One `oci_sync` task, resolved: what a tick, a restore and a worker need to know of it. Pure."""

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from connector.kafka.record import partition_for
from connector.layers.extract import ExtractOptions
from connector.oci.platform import Platform
from connector.oci.reference import Reference
from connector.records.avro import schema_id_of
from connector.records.file_key import KeyFormat, decode_file_key, encode_file_key

Partitioner = Literal["source", "key"]
Oversize = Literal["error", "skip", "reference"]


class Source(Struct, frozen=True):
    """One `oci_sync` task, resolved: everything a tick needs to know and nothing that does IO.

    `settings` is the fingerprint of what shapes the records; `offset_partition` the unit of ownership.
    """

    flow: str
    name: str
    reference: Reference
    platform: Platform | None
    options: ExtractOptions
    topic: str
    topic_partitions: int
    offsets_topic: str
    offsets_partitions: int
    offset_key: bytes
    offset_partition: int
    settings: str
    force_pull: bool
    timeout: timedelta
    worker: str
    key_format: KeyFormat = "string"
    partitioner: Partitioner = "source"
    commit_record: bool = False
    oversize: Oversize = "error"

    @property
    def artifact(self) -> str:
        """The reference as configured."""
        return self.reference.text

    @property
    def record_partitions(self) -> Sequence[int]:
        """The partitions that may hold records of this source."""
        if self.partitioner == "key":
            return range(self.topic_partitions)
        return (self.record_partition(b""),)

    def record_partition(self, key: bytes) -> int:
        """Where the record of a key goes: its own hash or, by default, the source's, so that all are in one."""
        if self.partitioner == "key":
            return partition_for(key, self.topic_partitions)
        return _partition_of(self.artifact, self.topic_partitions)

    def path_of(self, key: bytes) -> str | None:
        """The path of a record's key in our key format; None for other artifacts, other key formats, commit records."""
        try:
            artifact, path = decode_file_key(key)
        except ValueError:
            return None
        schema_id = schema_id_of(key) if self.key_format == "avro" else 0
        ours = artifact == self.artifact and encode_file_key(self.key_format, artifact, path, schema_id) == key
        return path if ours and path else None


@lru_cache(maxsize=1024)
def _partition_of(artifact: str, partitions: int) -> int:
    """Asked for each record of a pull: 0.5 s for 100,000 of them, if it were hashed each time."""
    return partition_for(artifact.encode(), partitions)
