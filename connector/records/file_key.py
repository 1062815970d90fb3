"""The key of a file's record, in each `key_format`, and back. Pure.

    string   registry.example.com/org/flows:prod#flows/a.yaml       the first `#` splits it: no reference holds one
    json     {"artifact":"...","path":"..."}                         in this order, no blanks, non-ASCII as it is
    avro     0x00, schema id, the record OciFileKey                  the id is part of the key's bytes

A key says itself which it is: no reference begins with `{` or a zero byte.
"""

import json
from typing import Literal

from connector.records.avro import from_wire, to_wire
from connector.records.schemas import FILE_KEY

KeyFormat = Literal["string", "json", "avro"]


def encode_file_key(key_format: KeyFormat, artifact: str, path: str, schema_id: int = 0) -> bytes:
    """The key's bytes; they never change for one artifact, path and schema id, which only `avro` needs."""
    match key_format:
        case "string":
            return f"{artifact}#{path}".encode()
        case "json":
            document = {"artifact": artifact, "path": path}
            return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        case "avro":
            return to_wire(FILE_KEY, schema_id, {"artifact": artifact, "path": path})


def decode_file_key(key: bytes) -> tuple[str, str]:
    """Artifact and path of a key in any format. Raises ValueError."""
    if key.startswith(b"\0"):
        fields = from_wire(FILE_KEY, key)
        return fields["artifact"], fields["path"]
    if key.startswith(b"{"):
        return _from_json(key)
    artifact, separator, path = key.decode("utf-8").partition("#")
    if not separator:
        raise ValueError("it holds no '#'")
    return artifact, path


def _from_json(key: bytes) -> tuple[str, str]:
    try:
        document = json.loads(key)
        artifact, path = document["artifact"], document["path"]
        ours = encode_file_key("json", artifact, path) == key
    except (RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is not an object of artifact and path") from error
    if not ours or not isinstance(artifact, str) or not isinstance(path, str):
        raise ValueError("it is not just artifact and path, in this order and without blanks")
    return artifact, path
