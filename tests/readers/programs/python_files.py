"""What both Python readers make of a record; Avro by plain fastavro, its schema over HTTP by the id in the value."""

import base64
import json
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_reader


@dataclass
class Files:
    """Turns records of one format into the readers' lines."""

    format: str
    schema_registry: str
    _schemas: dict[int, Any] = field(default_factory=dict)

    def print_line(
        self, offset: int, key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes | str | None]]
    ) -> None:
        """One JSON line: offset, path, content (base64, null for a tombstone), digest of the artifact."""
        digest = dict(headers)["oci.artifact_digest"]
        assert isinstance(digest, bytes)
        content = None if value is None else base64.b64encode(self._content(value)).decode()
        path = key.decode().partition("#")[2]
        print(json.dumps({"offset": offset, "path": path, "content": content, "digest": digest.decode()}), flush=True)

    def _content(self, value: bytes) -> bytes:
        if self.format == "raw":
            return value
        document = self._avro(value) if self.format == "avro" else json.loads(value)
        return str(document["content"]).encode()

    def _avro(self, value: bytes) -> Any:
        assert value[0] == 0
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            with urllib.request.urlopen(f"{self.schema_registry}/schemas/ids/{number}", timeout=10) as answer:
                self._schemas[number] = parse_schema(json.loads(json.load(answer)["schema"]))
        return schemaless_reader(BytesIO(value[5:]), self._schemas[number], None)
