"""Avro in the Confluent wire format: a zero byte, the schema's id in four bytes (big-endian), the body. Pure.

Only bytes that this encoder would have written are read: a body with anything left over, or cut, is refused.
"""

import json
from collections.abc import Mapping
from functools import cache
from io import BytesIO

from connector.records.file_text import FileText
from connector.records.schemas import avro_schema, schema_text

_PREFIX_BYTES = 5


def to_wire(name: str, schema_id: int, fields: Mapping[str, str | FileText]) -> bytes:
    """The record `fields`, all of them strings, under the schema of that name, which a registry knows by `schema_id`.

    Written here and not by fastavro, which would want a long text as one Python string and copy it twice.
    """
    out = BytesIO()
    out.write(b"\0" + schema_id.to_bytes(_PREFIX_BYTES - 1, "big"))
    for field in _field_names(name):
        value = fields[field]
        pieces = (value.encode(),) if isinstance(value, str) else value.pieces()
        out.write(_long(_size_bytes(value)))
        out.writelines(pieces)
    return out.getvalue()


def wire_size_bytes(name: str, fields: Mapping[str, str | FileText]) -> int:
    """How long `to_wire` would be."""
    sizes = [_size_bytes(fields[field]) for field in _field_names(name)]
    return _PREFIX_BYTES + sum(len(_long(size)) + size for size in sizes)


def from_wire(name: str, data: bytes) -> dict[str, str]:
    """The inverse of `to_wire`, whatever the id. Raises ValueError."""
    if len(data) < _PREFIX_BYTES or data[0] != 0:
        raise ValueError("it does not begin with a zero byte and a schema id")
    # Here, and not above: its import takes 10 ms, and most workers never read Avro.
    from fastavro import schemaless_reader

    schema = avro_schema(name)
    try:
        read = schemaless_reader(BytesIO(data[_PREFIX_BYTES:]), schema, None)
    except Exception as error:  # the library lets through whatever its C code met
        raise ValueError(f"the body is not Avro of {name}") from error
    fields = {str(key): str(value) for key, value in read.items()} if isinstance(read, dict) else {}
    if to_wire(name, schema_id_of(data), fields) != data:
        raise ValueError(f"the body is not just one record of {name}")
    return fields


def schema_id_of(data: bytes) -> int:
    """The id in the prefix."""
    return int.from_bytes(data[1:_PREFIX_BYTES], "big")


@cache
def _field_names(name: str) -> tuple[str, ...]:
    return tuple(field["name"] for field in json.loads(schema_text(name))["fields"])


def _size_bytes(value: str | FileText) -> int:
    return len(value.encode()) if isinstance(value, str) else value.size_bytes


def _long(count: int) -> bytes:
    """A count as Avro writes a long: zigzag, then seven bits a byte, the lowest first."""
    left, written = count << 1, bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    written.append(left)
    return bytes(written)
