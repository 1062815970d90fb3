"""Who reads: a client we did not write, how it is called, and how its lines are understood.

A reader prints what it gets for as long as it lives; it is ended once it has shown the record at the offset `last`.
The two tables of Kafka Streams print their rows, then end by themselves.
"""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO

from tests.readers import builds
from tests.system.servers import find_program
from tools.stack.kafka_files import find_java

_PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Line:
    """One record, or one row of a table. `content` is None for a tombstone, `digest` where the reader cannot tell."""

    path: str
    content: bytes | None
    digest: str | None = None
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Asked:
    """What to read. An empty `isolation` leaves what the client does by itself; `last` is the last record's offset."""

    bootstrap: str
    topic: str
    format: str
    isolation: str
    schema_registry: str
    folder: Path
    last: int


Lines = Iterator[Line]


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader and the formats it can make files of. A quick one is part of `make test`."""

    name: str
    client: str
    formats: tuple[str, ...]
    command: Callable[[Asked], list[str]]
    parse: Callable[[IO[bytes]], Lines]
    is_quick: bool = False

    def read(self, asked: Asked) -> list[Line]:
        """Everything up to `last`. Fails when that does not come within a minute."""
        with self.reading(asked) as lines:
            return list(_up_to(asked.last, lines))

    @contextmanager
    def reading(self, asked: Asked, patience_seconds: float = _PATIENCE_SECONDS) -> Iterator[Lines]:
        """The lines as they come, from a process that is ended with the block."""
        asked.folder.mkdir(parents=True, exist_ok=True)
        log = asked.folder / "stderr"
        with log.open("wb") as errors:
            process = subprocess.Popen(self.command(asked), cwd=builds.ROOT, stdout=subprocess.PIPE, stderr=errors)
        watchdog = Timer(patience_seconds, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            yield self.parse(process.stdout)
        except BaseException as error:
            error.add_note(f"{self.name} said: {log.read_text()[-2000:]}")
            raise
        finally:
            watchdog.cancel()
            process.kill()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def _up_to(last: int, lines: Lines) -> Lines:
    offset = None
    for line in lines:
        yield line
        offset = line.offset
        if offset >= last:
            return
    assert offset in (None, -1), f"the reader ended at offset {offset}, before {last}"


def _json_lines(stream: IO[bytes]) -> Lines:
    for text in stream:
        row = json.loads(text)
        content = None if row["content"] is None else base64.b64decode(row["content"])
        yield Line(row["path"], content, row.get("digest"), row.get("offset", -1))


def _line(offset: int, key: str, value: bytes | None, headers: str) -> Line:
    """Of a tool that shows bytes: a json value starts with a brace and has our four fields, all else is raw."""
    found = re.search(r"oci\.artifact_digest[=:](sha256:[0-9a-f]{64})", headers)
    content = value
    if value is not None and value.startswith(b'{"path":'):
        content = json.loads(value)["content"].encode()
    return Line(key.partition("#")[2], content, found.group(1) if found else None, offset)


def _python(module: str) -> Callable[[Asked], list[str]]:
    def command(asked: Asked) -> list[str]:
        program = [sys.executable, "-m", f"tests.readers.programs.{module}"]
        return [*program, asked.bootstrap, asked.topic, asked.isolation, asked.format, asked.schema_registry]

    return command


# Lengths first, so that a value may hold anything: kcat writes -1 for null and 0 for an empty value.
_KCAT_FORMAT = r"%o %K %S\n%k%s%h\n"


def _kcat(asked: Asked) -> list[str]:
    isolation = ["-X", f"isolation.level={asked.isolation}"] if asked.isolation else []
    where = ["-b", asked.bootstrap, "-C", "-t", asked.topic, "-o", "beginning", "-q", "-u"]
    return [str(find_program("kcat")), *where, *isolation, "-f", _KCAT_FORMAT]


def _kcat_lines(stream: IO[bytes]) -> Lines:
    while lengths := stream.readline():
        offset, key_length, value_length = (int(number) for number in lengths.split())
        key = stream.read(key_length).decode()
        value = None if value_length < 0 else stream.read(value_length)
        yield _line(offset, key, value, stream.readline().decode())


def _java(main: str, *arguments: str) -> list[str]:
    light = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return [str(find_java()), *light, "-cp", builds.java_classpath(), main, *arguments]


def _console_consumer(asked: Asked) -> list[str]:
    isolation = ["--isolation-level", asked.isolation] if asked.isolation else []
    shown = [f"--formatter-property=print.{what}=true" for what in ("offset", "headers", "key")]
    where = ["--bootstrap-server", asked.bootstrap, "--topic", asked.topic, "--from-beginning"]
    return _java("org.apache.kafka.tools.consumer.ConsoleConsumer", *where, *isolation, *shown)


def _console_lines(stream: IO[bytes]) -> Lines:
    for text in stream:
        offset, headers, key, value = text.decode().rstrip("\n").split("\t", 3)
        content = None if value == "null" else value.encode()
        yield _line(int(offset.removeprefix("Offset:")), key, content, headers)


def _streams(table: str) -> Callable[[Asked], list[str]]:
    def command(asked: Asked) -> list[str]:
        state = str(asked.folder / "state")
        arguments = [asked.bootstrap, asked.topic, asked.isolation, asked.format, state, table, str(asked.last)]
        return _java("StreamsReader", *arguments)

    return command


def _go(asked: Asked) -> list[str]:
    return [str(builds.go_reader()), asked.bootstrap, asked.topic, asked.isolation, asked.format]


def _node(asked: Asked) -> list[str]:
    arguments = [asked.bootstrap, asked.topic, asked.isolation, asked.format, asked.schema_registry]
    return ["node", str(builds.node_reader()), *arguments]


READERS = (
    Reader("kcat", "librdkafka (C)", ("json", "raw"), _kcat, _kcat_lines, is_quick=True),
    Reader(
        "kafka-python", "its own (Python)", ("json", "avro", "raw"), _python("kafka_python"), _json_lines, is_quick=True
    ),
    Reader(
        "confluent-kafka", "librdkafka (C)", ("json", "avro", "raw"), _python("confluent_kafka_reader"), _json_lines,
        is_quick=True,
    ),
    Reader("Kafka's console consumer", "Kafka's own (Java)", ("json",), _console_consumer, _console_lines),
    Reader("Kafka Streams, KTable", "Kafka's own (Java)", ("json", "raw"), _streams("ktable"), _json_lines),
    Reader("Kafka Streams, GlobalKTable", "Kafka's own (Java)", ("json", "raw"), _streams("globalktable"), _json_lines),
    Reader("franz-go", "its own (Go)", ("json", "raw"), _go, _json_lines),
    Reader("@platformatic/kafka", "its own (Node)", ("json", "avro", "raw"), _node, _json_lines),
)  # fmt: skip
