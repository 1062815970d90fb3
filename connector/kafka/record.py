"""A Kafka record as a value, its size on the wire, and the partition a source lives in. Pure."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from msgspec import Struct

Headers = tuple[tuple[str, bytes], ...]

# Upper bounds of what the v2 record format adds: attributes, varint lengths, timestamp and offset deltas for the
# record; a varint pair for each header; the batch header of 61 bytes is shared, but a record may be alone in one.
_RECORD_OVERHEAD_BYTES = 21 + 61
_HEADER_OVERHEAD_BYTES = 10


class Record(Struct, frozen=True):
    """One record to produce, or one consumed. `value` None is a tombstone; `partition` is always given.

    `offset` and `timestamp_ms` are -1 on records that were not read from a broker.
    """

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: Headers = ()
    offset: int = -1
    timestamp_ms: int = -1

    def header(self, name: str) -> str | None:
        """The last header of that name as text, None where it is absent; bytes that are not UTF-8 are replaced."""
        for key, value in reversed(self.headers):
            if key == name:
                return value.decode("utf-8", "replace")
        return None


def record_size_bytes(record: Record) -> int:
    """At most how many bytes the record takes in an uncompressed batch of its own, key and headers included."""
    headers = sum(len(name.encode()) + len(value) + _HEADER_OVERHEAD_BYTES for name, value in record.headers)
    return _RECORD_OVERHEAD_BYTES + len(record.key) + len(record.value or b"") + headers


class RecordSize(Struct, frozen=True):
    """What a record takes (see `record_size_bytes`), and which it is."""

    topic: str
    key: bytes
    size_bytes: int


@runtime_checkable
class KnowsSizes(Protocol):
    """Records that can say how large they are before they are made."""

    def sizes(self) -> Iterator[RecordSize]:
        """The size of each, in their order."""
        ...


def sizes_of(records: Iterable[Record]) -> Iterator[RecordSize]:
    """The size of each record; those that know their sizes are not made for it."""
    if isinstance(records, KnowsSizes):
        return records.sizes()
    return map(_size_of, records)


def _size_of(record: Record) -> RecordSize:
    return RecordSize(record.topic, record.key, record_size_bytes(record))


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash as Kafka's Java client computes it (`Utils.murmur2`), unsigned."""
    length = len(data)
    m = 0x5BD1E995
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    for i in range(0, length - length % 4, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * m) & 0xFFFFFFFF
        k ^= k >> 24
        k = (k * m) & 0xFFFFFFFF
        h = ((h * m) & 0xFFFFFFFF) ^ k
    tail = data[length - length % 4 :]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * m) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * m) & 0xFFFFFFFF
    h ^= h >> 15
    return h


def partition_for(key: bytes, partitions: int) -> int:
    """The partition Java's default partitioner gives the key: `toPositive(murmur2(key)) % partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
