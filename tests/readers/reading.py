"""A reader: a client we did not write, how it is called, and how its lines are understood.

A reader prints what it gets for as long as it lives; it is ended once it has shown the record at the offset `last`.
Those that print a table, a result or a file end by themselves.
"""

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO

from tests.readers.builds import ROOT

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
    """What to read. An empty `isolation` leaves what the client does by itself; `last` is the last record's offset.

    `database` is host:port/name of an empty one, where the reader fills one.
    """

    bootstrap: str
    topic: str
    format: str
    isolation: str
    schema_registry: str
    folder: Path
    last: int
    database: str = ""


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
    fills_a_database: bool = False

    def read(self, asked: Asked) -> list[Line]:
        """Everything up to `last`. Fails when that does not come within a minute."""
        with running(self.name, self.command(asked), asked.folder) as stream:
            return list(_up_to(asked.last, self.parse(stream)))


@contextmanager
def running(
    name: str, command: list[str], folder: Path, patience_seconds: float = _PATIENCE_SECONDS
) -> Iterator[IO[bytes]]:
    """What a process prints, as it comes; the process works in `folder` and is ended with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "stderr"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, env=environment)
    watchdog = Timer(patience_seconds, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        yield process.stdout
    except BaseException as error:
        error.add_note(f"{name} said: {log.read_text(errors='replace')[-2000:]}")
        raise
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(10)
        process.stdout.close()


def _up_to(last: int, lines: Lines) -> Lines:
    offset = None
    for line in lines:
        yield line
        offset = line.offset
        if offset >= last:
            return
    assert offset == -1, f"the reader ended at offset {offset}, before {last}"


def json_lines(stream: IO[bytes]) -> Lines:
    """Of our own programs: one JSON document a record or row, `content` in base64."""
    for text in stream:
        row = json.loads(text)
        content = None if row["content"] is None else base64.b64decode(row["content"])
        yield Line(row["path"], content, row.get("digest"), row.get("offset", -1))
