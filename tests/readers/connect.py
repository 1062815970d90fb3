"""Kafka Connect: a worker with one sink, by the properties of docs/readers.md."""

import re
import uuid
from collections.abc import Callable
from typing import IO

from tests.readers import builds
from tests.readers.reading import Asked, Line, Lines
from tests.readers.recipes import block, pointed_at
from tools.stack.kafka_files import find_java

WORKER = "offset.storage.file.filename"
FILE_SINK, JDBC_SINK = "FileStreamSinkConnector", "JdbcSinkConnector"
CONVERTERS = {"json_schema": "schemas.enable=true", "avro": "AvroConverter"}

_DIGEST = rb"sha256:[0-9a-f]{64}"
# A file sink writes what Java makes of a value: a Map without a schema, whose order is that of its hashes, or a Struct.
_MAP = re.compile(
    rb"\{artifact_digest=(?P<artifact>" + _DIGEST + rb"), path=(?P<path>.*?), digest=" + _DIGEST
    + rb", content=(?P<content>.*?)\}\n(?=\{artifact_digest=|null\n|\Z)",
    re.DOTALL,
)  # fmt: skip
_STRUCT = re.compile(
    rb"Struct\{path=(?P<path>.*?),content=(?P<content>.*?),digest=" + _DIGEST
    + rb",artifact_digest=(?P<artifact>" + _DIGEST + rb")\}\n",
    re.DOTALL,
)  # fmt: skip


def command(sink: str) -> Callable[[Asked], list[str]]:
    """A worker for the one connector whose block has `sink` in it."""

    def command_for(asked: Asked) -> list[str]:
        asked.folder.mkdir(parents=True, exist_ok=True)
        plugins = asked.folder / "plugins"
        if not plugins.exists():
            plugins.symlink_to(builds.connect_plugins())
        # A port and a group of its own, since others run on this machine; and no minute's wait for the commit.
        worker = block(WORKER) + "listeners=http://127.0.0.1:0\noffset.flush.interval.ms=500\n"
        connector = block(sink).replace("name=rules", f"name=rules-{uuid.uuid4()}")
        converter = block(CONVERTERS[asked.format]) if asked.format in CONVERTERS else ""
        files = {"worker.properties": worker, "sink.properties": connector + converter}
        for name, text in files.items():
            (asked.folder / name).write_text(pointed_at(text, asked))
        light = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", builds.LOG_SETTINGS]
        main = ["-cp", builds.connect_classpath(), "ConnectReader", asked.bootstrap, asked.topic, str(asked.last)]
        return [str(find_java()), *light, *main, *files]

    return command_for


def file_lines(stream: IO[bytes]) -> Lines:
    """The files of the newest release in the sink's file, which has no keys and of a tombstone only `null`.

    So whoever reads it takes the lines that name the newest artifact_digest; all others are gone.
    """
    text = stream.read()
    pattern = _STRUCT if b"Struct{" in text else _MAP
    found = [Line(one["path"].decode(), one["content"], one["artifact"].decode()) for one in pattern.finditer(text)]
    yield from found
    newest = {line.path: line for line in found}
    yield from (Line(path, None) for path, line in newest.items() if line.digest != found[-1].digest)
