"""Who reads."""

import json
import re
import sys
from collections.abc import Callable
from typing import IO

from tests.readers import builds, connect, flink
from tests.readers.reading import Asked, Line, Lines, Reader, json_lines
from tests.system.servers import find_program
from tools.stack.kafka_files import find_java


def _line(offset: int, key: str, value: bytes | None, headers: str) -> Line:
    """Of a tool that shows bytes: a json value starts with a brace and has our four fields, all else is raw."""
    found = re.search(r"oci\.artifact_digest[=:](sha256:[0-9a-f]{64})", headers)
    content = value
    if value is not None and value.startswith(b'{"path":'):
        content = json.loads(value)["content"].encode()
    return Line(key.partition("#")[2], content, found.group(1) if found else None, offset)


def _arguments(asked: Asked) -> list[str]:
    return [asked.bootstrap, asked.topic, asked.isolation, asked.format, asked.schema_registry]


def _python(module: str) -> Callable[[Asked], list[str]]:
    return lambda asked: [sys.executable, "-m", f"tests.readers.programs.{module}", *_arguments(asked)]


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
    light = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", builds.LOG_SETTINGS]
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
    return lambda asked: _java("StreamsReader", *_arguments(asked), str(asked.folder / "state"), table, str(asked.last))


def _go(asked: Asked) -> list[str]:
    return [str(builds.go_reader()), *_arguments(asked)]


def _node(asked: Asked) -> list[str]:
    return ["node", str(builds.node_reader()), *_arguments(asked)]


_PLAIN = ("json", "avro", "raw")


READERS = (
    Reader("kcat", "librdkafka (C)", ("json", "raw"), _kcat, _kcat_lines, is_quick=True),
    Reader("kafka-python", "its own (Python)", _PLAIN, _python("kafka_python"), json_lines, is_quick=True),
    Reader("confluent-kafka", "librdkafka (C)", _PLAIN, _python("confluent_kafka_reader"), json_lines, is_quick=True),
    Reader("Kafka's console consumer", "Kafka's own (Java)", ("json",), _console_consumer, _console_lines),
    Reader("Kafka Streams, KTable", "Kafka's own (Java)", _PLAIN, _streams("ktable"), json_lines),
    Reader("Kafka Streams, GlobalKTable", "Kafka's own (Java)", _PLAIN, _streams("globalktable"), json_lines),
    Reader("Flink SQL, upsert-kafka", "Kafka's own (Java)", _PLAIN, flink.command, flink.lines),
    Reader(
        "Kafka Connect, file sink", "Kafka's own (Java)", ("json", "json_schema", "avro"),
        connect.command(connect.FILE_SINK), connect.file_lines,
    ),
    Reader(
        "Kafka Connect, Debezium's JDBC sink", "Kafka's own (Java)", ("json_schema", "avro"),
        connect.command(connect.JDBC_SINK), json_lines, fills_a_database=True,
    ),
    Reader("franz-go", "its own (Go)", _PLAIN, _go, json_lines),
    Reader("@platformatic/kafka", "its own (Node)", _PLAIN, _node, json_lines),
)  # fmt: skip
