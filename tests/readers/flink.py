"""Flink SQL: the statements of docs/readers.md, on a cluster inside one JVM."""

import base64
import json
from typing import IO

from tests.readers import builds
from tests.readers.reading import Asked, Line, Lines
from tests.readers.recipes import block, pointed_at
from tools.stack.kafka_files import find_java

MARKERS = {
    "json": "'value.format' = 'json'",
    "avro": "'value.format' = 'avro-confluent'",
    "raw": "'value.format' = 'raw'",
}
# What the scripts of Flink's distribution set for Java 17 (its config.yaml, env.java.opts.all), as far as it is needed.
_OPENED = ("java.base/java.util", "java.base/java.lang", "java.base/java.util.concurrent", "java.base/java.time")


def command(asked: Asked) -> list[str]:
    """The program over Flink, with the page's statements for the format."""
    script = asked.folder / "files.sql"
    asked.folder.mkdir(parents=True, exist_ok=True)
    script.write_text(pointed_at(block(MARKERS[asked.format]), asked))
    light = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    opened = [f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED]
    main = ["-cp", builds.flink_classpath(), "FlinkReader", str(script)]
    return [str(find_java()), *light, *opened, builds.LOG_SETTINGS, *main]


def lines(stream: IO[bytes]) -> Lines:
    """The changes of the result: +I and +U are a file, -D is a file that is gone, -U says nothing new."""
    for text in stream:
        row = json.loads(text)
        path = row["path"] if "path" in row else row["file_key"].partition("#")[2]
        content = row["content"].encode() if "content" in row else base64.b64decode(row["body"])
        if row["kind"] in ("+I", "+U"):
            yield Line(path, content, row["artifact_digest"])
        elif row["kind"] == "-D":
            yield Line(path, None)
