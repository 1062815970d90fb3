"""Avro in the Confluent wire format: a zero byte, the schema's id in four bytes (big-endian), the body. Pure.

Only bytes that this encoder would have written are read: a body with anything left over, or cut, is refused.
"""

from io import BytesIO

from fastavro import schemaless_reader, schemaless_writer

from connector.records.schemas import avro_schema

_PREFIX_BYTES = 5


def to_wire(name: str, schema_id: int, fields: dict[str, str]) -> bytes:
    """The record `fields` under the schema of that name, which a registry knows by `schema_id`."""
    out = BytesIO()
    out.write(b"\0" + schema_id.to_bytes(4, "big"))
    schemaless_writer(out, avro_schema(name), fields)
    return out.getvalue()


def from_wire(name: str, data: bytes) -> dict[str, str]:
    """The inverse of `to_wire`, whatever the id. Raises ValueError."""
    if len(data) < _PREFIX_BYTES or data[0] != 0:
        raise ValueError("it does not begin with a zero byte and a schema id")
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
