"""`oci-sync peek TOPIC`: decoded records, a line each; committed ones only, as every reader should see them."""

import asyncio
import base64
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from connector.cli import ExitCode
from connector.cli.directory import write_files
from connector.cli.output import OutputFormat, as_json, as_yaml
from connector.config.worker_file import load_worker
from connector.errors import OutputError, SinkError
from connector.kafka.reader import TopicReader
from connector.kafka.record import Record
from connector.records.file_record import (
    ARTIFACT_DIGEST,
    CHANGE,
    DELETES,
    FILES,
    POSITION,
    PULL_ID,
    FileRecord,
    is_end_mark,
    split_file_key,
)
from connector.records.reading import format_of, read_file
from connector.sink.tasks.buffer import Snapshots
from connector.telemetry import printable
from connector.wiring.parts import open_parts

_MARKS = {"added": "+", "modified": "~", "unchanged": "=", "removed": "-"}
_MOST_NAMED = 5


def peek(
    topic: Annotated[str, typer.Argument(help="A flow's topic: oci.<flow name> unless the task names one.")],
    worker_file: Annotated[
        Path | None, typer.Option("-c", "--worker", help="worker.yaml; without it Kafka is at localhost:9092.")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new records until interrupted.")] = False,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="Only the newest complete set of files.")] = False,
    content: Annotated[bool, typer.Option("--content", help="The files' content too.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Write the newest complete set into this folder; 1 if the topic lacks a content."),
    ] = None,
    output: Annotated[
        OutputFormat, typer.Option("-o", "--output", help="A table, JSON (one object a line), or a list in YAML.")
    ] = OutputFormat.TABLE,
) -> None:
    """Show what is in a topic."""
    asyncio.run(_peek(topic, worker_file, follow=follow, snapshot=snapshot, content=content, output=output, to=to))


async def _peek(
    topic: str,
    worker_file: Path | None,
    *,
    follow: bool,
    snapshot: bool,
    content: bool,
    output: OutputFormat,
    to: Path | None,
) -> None:
    printer = Printer(output, content=content)
    async with open_parts(load_worker(worker_file)) as parts, TopicReader(parts.clients, parts.topics, topic) as reader:
        if not (snapshot or to is not None):
            async for batch in reader.batches(follow=follow):
                printer.print(batch)
            return
        newest = Newest(parts.worker.limits.max_total_size)
        async for batch in reader.batches():
            for record in batch:
                newest.take(record)
    lacking = False
    for artifact, records in newest.whole.items():
        if to is None:
            printer.print(records)
        else:
            lacking |= not write_whole(to, artifact, records)
    for line in newest.unfinished():
        sys.stderr.write(printable(line) + "\n")
    if lacking:
        raise typer.Exit(ExitCode.FAILED)


def write_whole(to: Path, artifact: str, records: Sequence[Record]) -> bool:
    """Write the files of one pull and say so; False where some were sent by reference, and are left out."""
    files = [file for record in records if (file := _decoded(record)) is not None]
    here = [file for file in files if file.reference_bytes is None]
    write_files(to, [(file.path, partial(bytes, file.content or b"")) for file in here])
    sys.stderr.write(printable(f"{artifact}: {len(here)} files written to {to}") + "\n")
    elsewhere = [file.path for file in files if file.reference_bytes is not None]
    if elsewhere:
        names = ", ".join(elsewhere[:_MOST_NAMED]) + (", …" if len(elsewhere) > _MOST_NAMED else "")
        sys.stderr.write(
            printable(
                f"{artifact}: {len(elsewhere)} files left out, for they were sent by reference and the topic has no "
                f"content of them: {names}; oci-sync pull {artifact} -o {to} fetches them"
            )
            + "\n"
        )
    return not elsewhere


class Newest:
    """The newest whole pull of each artifact, by the assembler that sinks use; and what is not whole."""

    def __init__(self, max_total_size: int) -> None:
        self._assembler = Snapshots(max_files=10_000_000, max_total_size=max(max_total_size, 1_000_000_000))
        self._records: dict[str, dict[str, list[Record]]] = {}  # artifact → pull id → what counts as a file
        self.whole: dict[str, list[Record]] = {}  # artifact → records

    def take(self, record: Record) -> None:
        file = _decoded(record)
        if file is None:
            return
        if record.value is not None and not is_end_mark(record):
            self._records.setdefault(file.pull.artifact, {}).setdefault(file.pull.pull_id, []).append(record)
        try:
            snapshot = self._assembler.feed(file, record.topic, record.partition, record.offset)
        except (OutputError, SinkError) as error:
            sys.stderr.write(printable(str(error)) + "\n")
            return
        if snapshot is not None:
            artifact, pull_id = snapshot.pull.artifact, snapshot.pull.pull_id
            self.whole[artifact] = self._records.get(artifact, {}).get(pull_id, [])
            self._records[artifact] = {pull_id: self.whole[artifact]}

    def unfinished(self) -> list[str]:
        """A line for each pull that has begun to arrive and is not whole."""
        return [
            f"{one.artifact}: pull {one.pull_id} has {one.seen} of {one.expected} files and is not whole; not shown"
            for one in self._assembler.collecting()
        ]


class Printer:
    """Lines on standard output; a heading where a new pull begins."""

    def __init__(self, output: OutputFormat, *, content: bool) -> None:
        self._output = output
        self._content = content
        self._pull: str | None = None

    def print(self, records: list[Record] | tuple[Record, ...] | Any) -> None:
        for record in records:
            for line in self._lines(record):
                sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def _lines(self, record: Record) -> Iterator[str]:
        match self._output:
            case OutputFormat.TABLE:
                yield from self._table(record)
            case OutputFormat.JSON:
                yield as_json(self._document(record))
            case OutputFormat.YAML:
                yield as_yaml([self._document(record)]).removesuffix("\n")

    def _table(self, record: Record) -> Iterator[str]:
        pull = record.header(PULL_ID)
        if pull != self._pull:
            if self._pull is not None:
                yield ""
            self._pull = pull
            when = datetime.fromtimestamp(max(record.timestamp_ms, 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
            artifact = printable(_key(record)[0])
            yield (
                f"{when}  pull {_header(record, PULL_ID)}  {_header(record, FILES)} files, "
                f"{_header(record, DELETES)} deletes\n  {artifact}  {_header(record, ARTIFACT_DIGEST)}"
            )
        change = _header(record, CHANGE)
        path = printable(_key(record)[1])
        place = f"[{record.partition}] {record.offset:>6}"
        if record.value is None:
            yield f"  {place}  {_MARKS.get(change, '?')} {change:<9} {path}  (tombstone)"
            return
        file = _decoded(record)
        if is_end_mark(record):
            yield f"  {place}  . commit    (commit record)"
        elif file is not None and file.reference_bytes is not None:
            yield f"  {place}  {_MARKS.get(change, '?')} {change:<9} {path}  {file.reference_bytes} bytes, by reference"
        else:
            size = "?" if file is None or file.content is None else str(len(file.content))
            yield f"  {place}  {_MARKS.get(change, '?')} {change:<9} {path}  {size} bytes"
        if self._content and file is not None and file.content is not None:
            for line in file.content.decode("utf-8", "replace").splitlines():
                yield f"        | {printable(line)}"

    def _document(self, record: Record) -> dict[str, Any]:
        file = _decoded(record)
        document: dict[str, Any] = {
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": record.key.decode("utf-8", "replace"),
            "artifact": _key(record)[0],
            "path": _key(record)[1],
            "tombstone": record.value is None,
            "headers": {name: value.decode("utf-8", "replace") for name, value in record.headers},
        }
        if file is not None and file.content is not None:
            document["format"] = format_of(record)
            document["size_bytes"] = len(file.content)
            if self._content:
                document |= _content(file.content)
        return document


def _decoded(record: Record) -> FileRecord | None:
    """The file of a record; None where another producer wrote it."""
    if record.header(POSITION) is None:
        return None
    try:
        return read_file(record)
    except OutputError:
        return None


def _header(record: Record, name: str) -> str:
    """A header as it may stand on a terminal."""
    return printable(record.header(name) or "?")


def _content(content: bytes) -> dict[str, str]:
    """The content as text, or what is not UTF-8 as base64 under another name."""
    try:
        return {"content": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"content_base64": base64.b64encode(content).decode("ascii")}


def _key(record: Record) -> tuple[str, str]:
    """Artifact and path; the whole key as the path where another producer wrote it."""
    try:
        return split_file_key(record.key)
    except OutputError:
        return "", record.key.decode("utf-8", "replace")
