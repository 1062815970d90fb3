"""What a user pastes from docs/readers.md and from the README's "Read it" shows each record of the topic, or each file.

The recipes of Flink and Kafka Connect are run by test_readers.py, which takes them from the page as well.
"""

import json
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.readers import builds, connect, flink
from tests.readers.conftest import Tell
from tests.readers.reading import Asked, running
from tests.readers.recipes import PAGE, README, block, blocks, pointed_at
from tests.readers.story import pulled
from tests.skipping import or_skip
from tests.system.servers import Broker, Oras, find_program
from tools.stack.kafka_files import find_java

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The block with `marker` in it, saved as `file`, and how it is started there."""

    marker: str
    file: str
    command: Callable[[Asked], list[str]]
    format: str = "json"
    is_quick: bool = False
    shows_rows: bool = False


def _shell(asked: Asked) -> list[str]:
    find_program("kcat")
    return ["sh", "recipe.sh"]


def _console(asked: Asked) -> list[str]:
    script = asked.folder / "kafka-console-consumer.sh"
    main = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    script.write_text(f'#!/bin/sh\nexec {find_java()} -cp "{builds.java_classpath()}" {main} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return ["sh", "-c", 'PATH="$PWD:$PATH" exec sh recipe.sh']


def _java(file: str) -> Callable[[Asked], list[str]]:
    def command(asked: Asked) -> list[str]:
        state = f"-Djava.io.tmpdir={asked.folder}"  # where Streams keeps its tables
        return [str(find_java()), state, "-Xmx256m", builds.LOG_SETTINGS, "-cp", builds.java_classpath(), file]

    return command


def _go(asked: Asked) -> list[str]:
    for name in ("go.mod", "go.sum"):
        shutil.copy(builds.PINS / name, asked.folder)
    builds.go_reader()  # its modules are those of the recipe
    return ["go", "run", "-mod=readonly", "main.go"]


def _node(asked: Asked) -> list[str]:
    (asked.folder / "node_modules").symlink_to(builds.node_reader().parent / "node_modules")
    # The page asks for Node 22; on Node 20 this one function is missing.
    (asked.folder / "older.mjs").write_text(
        "Promise.withResolvers ??= () => { const all = {}; "
        "all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject })); return all }\n"
    )
    return ["node", "--import", "./older.mjs", "recipe.mjs"]


def _python(asked: Asked) -> list[str]:
    return [sys.executable, "recipe.py"]


RECIPES = (
    Recipe("kcat -b", "recipe.sh", _shell, is_quick=True),
    Recipe("kafka-console-consumer.sh", "recipe.sh", _console),
    Recipe("    value = None if record.value is None", "recipe.py", _python, is_quick=True),
    Recipe("schemaless_reader", "recipe.py", _python, "avro", is_quick=True),
    Recipe("from confluent_kafka", "recipe.py", _python, is_quick=True),
    Recipe("public class Files", "Files.java", _java("Files.java")),
    Recipe("public class GlobalFiles", "GlobalFiles.java", _java("GlobalFiles.java"), shows_rows=True),
    Recipe("kgo.NewClient", "main.go", _go),
    Recipe("@platformatic/kafka", "recipe.mjs", _node),
)
# Run by test_readers.py.
IN_THE_MATRIX = (
    *flink.MARKERS.values(), *connect.CONVERTERS.values(), connect.WORKER, connect.FILE_SINK, connect.JDBC_SINK,
)  # fmt: skip


def test_each_recipe_of_the_page_is_run() -> None:
    markers = [*(recipe.marker for recipe in RECIPES), *IN_THE_MATRIX]

    assert sorted(block(marker) for marker in markers) == sorted(blocks(PAGE))


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(one, id=one.marker.strip(), marks=[] if one.is_quick else pytest.mark.long) for one in RECIPES],
)
def test_a_recipe_shows_the_files_as_it_stands_on_the_page(
    recipe: Recipe, kafka: Broker, oras: Oras, tell: Tell, tmp_path: Path
) -> None:
    with or_skip():
        told, schema_registry = tell(recipe.format, "early")
        asked = Asked(
            kafka.bootstrap, told.topic, recipe.format, "read_committed", schema_registry, tmp_path, told.last
        )
        (tmp_path / recipe.file).write_text(pointed_at(block(recipe.marker), asked))
        command = recipe.command(asked)

        with running(recipe.marker, command, tmp_path) as stream:
            shown = rows(stream) if recipe.shows_rows else up_to(told.keys, stream)

    if not recipe.shows_rows:
        assert [key for key, _ in shown] == list(told.keys)
    assert table_of(shown) == pulled(oras, told, tmp_path / "oras")


def test_the_kcat_of_the_readme_shows_each_record_with_its_headers(kafka: Broker, tell: Tell, tmp_path: Path) -> None:
    with or_skip():
        asked, keys = _asked_by_the_readme(kafka, tell, tmp_path)
        (tmp_path / "recipe.sh").write_text(pointed_at(block("kcat -b", README), asked))

        with running("kcat", _shell(asked), tmp_path) as stream:
            shown = stream.read().decode().splitlines()

    assert [line.rpartition(" bytes")[0].rpartition(" ")[0] for line in shown[::2]] == list(keys)
    assert all("oci.artifact_digest=sha256:" in headers for headers in shown[1::2])


def test_the_loop_of_the_readme_ends_with_the_files(kafka: Broker, oras: Oras, tell: Tell, tmp_path: Path) -> None:
    with or_skip():
        asked, _ = _asked_by_the_readme(kafka, tell, tmp_path)
        told, _ = tell("json", "early")
        text = pointed_at(block("consumer.poll(10)", README), asked)
        show = 'for key, value in files.items():\n    print(key.decode(), value.decode(), sep="\\t")\n'
        (tmp_path / "recipe.py").write_text(text + show)

        with running("the README's loop", _python(asked), tmp_path) as stream:
            shown = rows(stream)

    assert table_of(shown) == pulled(oras, told, tmp_path / "oras")


def test_the_snapshots_of_the_readme_are_the_releases(kafka: Broker, oras: Oras, tell: Tell, tmp_path: Path) -> None:
    with or_skip():
        asked, _ = _asked_by_the_readme(kafka, tell, tmp_path)
        told, _ = tell("json", "early")
        (tmp_path / "recipe.py").write_text(pointed_at(block("Snapshots(", README), asked))

        with running("the README's snapshots", _python(asked), tmp_path) as stream:
            shown = stream.read().decode().splitlines()

    assert len(shown) == 2  # releases 1 and 2, and nothing of the pull that was killed between them
    assert shown[-1] == f"{told.digest} {sorted(pulled(oras, told, tmp_path / 'oras'))}"


@pytest.mark.long
def test_the_streams_table_of_the_readme_holds_the_files(kafka: Broker, oras: Oras, tell: Tell, tmp_path: Path) -> None:
    with or_skip():
        asked, keys = _asked_by_the_readme(kafka, tell, tmp_path)
        told, _ = tell("json", "early")
        # The README shows the two lines that matter; around them stands the program of the page.
        two = block("KTable<String", README)
        page = block("public class Files").splitlines(keepends=True)
        around = [line for line in page if "ISOLATION" not in line and "KTable<" not in line]
        at = next(number for number, line in enumerate(around) if "files.toStream" in line)
        program = "".join([*around[:at], two, *around[at:]])
        (tmp_path / "Files.java").write_text(pointed_at(program, asked))

        with running("the README's table", _java("Files.java")(asked), tmp_path) as stream:
            shown = up_to(keys, stream)

    assert table_of(shown) == pulled(oras, told, tmp_path / "oras")


def _asked_by_the_readme(kafka: Broker, tell: Tell, folder: Path) -> tuple[Asked, tuple[str, ...]]:
    told, _ = tell("json", "early")
    return Asked(kafka.bootstrap, told.topic, "json", "read_committed", "", folder, told.last), told.keys


def up_to(keys: tuple[str, ...], stream: IO[bytes]) -> Pairs:
    """As many records as there are keys: most clients go on for ever."""
    shown = [pair(line) for _, line in zip(keys, stream, strict=False)]  # keys first: the stream may never end
    assert len(shown) == len(keys), f"the recipe ended after {shown}"
    return shown


def rows(stream: IO[bytes]) -> Pairs:
    """All that is printed."""
    return [pair(line) for line in stream]


def pair(line: bytes) -> tuple[str, str]:
    """Key and value. A JSON value has neither tab nor line feed as such."""
    key, _, value = line.decode().rstrip("\n").partition("\t")
    return key, value


def table_of(shown: Pairs) -> dict[str, bytes]:
    """The files after the last record. Each client has its own word for a tombstone."""
    files: dict[str, bytes] = {}
    for key, value in shown:
        path = key.partition("#")[2]
        if value in ("", "None", "null", "NULL"):
            files.pop(path)
        else:
            files[path] = json.loads(value)["content"].encode()
    return files
