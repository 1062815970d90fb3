"""What flows between a script and the tasks around it: plain data and where it came from. Pure.

The first event of a chain stands for one whole snapshot: `data.batch` lists its files as {path, content, digest,
artifact_digest}, `meta` says which pull it was. A file that is not UTF-8 has its content as base64, and
`content_encoding: base64` beside it; an event that goes to a store may say its content in the same way.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from connector.errors import SinkError
from connector.records.file_record import FileRecord, Snapshot


class Event(Struct, frozen=True):
    """`data` is JSON-like: mappings with string keys, lists, strings, numbers, booleans, None."""

    data: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)


def batch_event(snapshot: Snapshot, flow: str) -> Event:
    """The event that stands for a whole snapshot."""
    pull = snapshot.pull
    meta = {
        "flow": flow,
        "artifact": pull.artifact,
        "artifact_digest": pull.artifact_digest,
        "previous_digest": pull.previous_digest,
        "pull_id": pull.pull_id,
    }
    return Event({"batch": [_file(file) for file in snapshot.files]}, meta)


def content_of(event: Event, doing: str) -> bytes:
    """The bytes a put writes: `data.content`, else the whole data as JSON. Raises SinkError ScriptFailed."""
    content = event.data.get("content", event.data)
    if not isinstance(content, str):
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    if event.data.get("content_encoding") != "base64":
        return content.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise SinkError(
            reason="ScriptFailed",
            doing=doing,
            cause="the event says content_encoding: base64, and its content is not base64",
            remedy="let the script hand on content and content_encoding together (operator)",
        ) from error


def _file(file: FileRecord) -> dict[str, str]:
    content = file.content or b""
    document = {"path": file.path, "content": "", "digest": file.digest, "artifact_digest": file.pull.artifact_digest}
    try:
        document["content"] = content.decode("utf-8")
    except UnicodeDecodeError:
        document["content"] = base64.b64encode(content).decode("ascii")
        document["content_encoding"] = "base64"
    return document
