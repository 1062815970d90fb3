"""`oci-sync status`: how every source and sink stands, from the worker's listener, else from the topics alone."""

import asyncio
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer
from ruamel.yaml import YAML

from connector.cli.worker_http import Json, WorkerUnreachable, ask, worker_url
from connector.config.worker_file import Worker, load_worker
from connector.errors import ConfigError
from connector.telemetry import printable

NOT_READY = 3
_HEADS = ("SOURCE", "FLOW", "READY", "REASON", "REVISION", "AGE", "NEXT", "FILES", "MESSAGE")
_SINK_HEADS = ("SINK", "FLOW", "READY", "REASON", "TOPIC", "LAG", "MESSAGE")

Output = Literal["table", "json", "yaml"]
FromTopics = Callable[[Worker], Json]


def status(
    config: Annotated[Path | None, typer.Option("-c", "--worker", help="worker.yaml.")] = None,
    url: Annotated[str | None, typer.Option(help="The worker to ask; default: its http.address.")] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to write it.")] = "table",
) -> None:
    """How every source and sink stands. Exit 0: all ready; 3: not ready."""
    document = read_status(load_worker(config), url, _from_topics)
    typer.echo(written(document, output), nl=False)
    raise typer.Exit(0 if document["ready"] else NOT_READY)


def _from_topics(worker: Worker) -> Json:
    """What Kafka tells where no worker answers; only then are its clients worth importing."""
    parts = import_module("connector.wiring.parts")
    told = import_module("connector.wiring.status_from_topics")

    async def ask_kafka() -> Json:
        async with parts.open_parts(worker) as opened:
            document: Json = await told.status_from_topics(opened)
            return document

    return asyncio.run(ask_kafka())


def read_status(worker: Worker, url: str | None, from_topics: FromTopics | None = None) -> Json:
    """The status document: the worker's own, or what the topics tell where none answers and no URL was insisted on.

    Raises ConfigError where there is nobody to ask.
    """
    try:
        code, document = ask(f"{worker_url(worker.http.address, url)}/status")
    except (WorkerUnreachable, ConfigError) as error:
        if from_topics is not None and url is None:
            return from_topics(worker)
        if isinstance(error, ConfigError):
            raise
        raise _no_worker(str(error)) from error
    if code != 200 or "sources" not in document:
        raise _no_worker(f"the answer was {code}: {document.get('error', 'not a status')}")
    return document


def written(document: Json, output: Output) -> str:
    """The document as it goes to standard output."""
    match output:
        case "json":
            return json.dumps(document, indent=2) + "\n"
        case "yaml":
            stream = io.StringIO()
            YAML(typ="safe", pure=True).dump(document, stream)
            return stream.getvalue()
        case "table":
            return table(document)


def table(document: Json) -> str:
    """The document for people: a line for each source and sink, then what else is wrong."""
    at = datetime.fromisoformat(document["at"])
    parts = [_columns(_HEADS, [_source_row(one, at) for one in document["sources"]])]
    if document["sinks"]:
        parts.append(_columns(_SINK_HEADS, [_sink_row(one) for one in document["sinks"]]))
    shown = {
        f"{one['flow']}/{one.get('source') or one.get('sink')}: " for one in document["sources"] + document["sinks"]
    }
    others = [one for one in document["problems"] if not one.startswith(tuple(shown))]
    if others:
        parts.append("".join(f"! {printable(one)}\n" for one in others))
    return "\n".join(parts)


def _source_row(source: Mapping[str, object], at: datetime) -> Sequence[str]:
    ready = _ready(source)
    return (
        str(source["source"]),
        str(source["flow"]),
        ready["status"],
        ready["reason"],
        _short(str(source["revision"] or "-")),
        _duration(_moment(source["last_change"]), at),
        _duration(at, _moment(source["next_tick"])),
        str(source["files"] if source["files"] is not None else "-"),
        ready["message"],
    )


def _sink_row(sink: Mapping[str, object]) -> Sequence[str]:
    ready = _ready(sink)
    lag = sink["lag_records"]
    return (
        str(sink["sink"]),
        str(sink["flow"]),
        ready["status"],
        ready["reason"],
        str(sink["topic"]),
        str(lag if lag is not None else "-"),
        ready["message"],
    )


def _ready(one: Mapping[str, object]) -> Mapping[str, str]:
    conditions = one["conditions"]
    assert isinstance(conditions, list)
    ready: Mapping[str, str] = conditions[0]
    return ready


def _short(revision: str) -> str:
    """Digests to twelve digits: enough to tell releases apart, and the line stays readable."""
    name, colon, digits = revision.rpartition(":")
    return f"{name}:{digits[:12]}…" if colon and len(digits) > 12 else revision


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _duration(start: datetime | None, end: datetime | None) -> str:
    if start is None or end is None:
        return "-"
    seconds = max((end - start).total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s"


def _columns(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    shown = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "".join(f"{line}\n" for line in shown)


def _no_worker(cause: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing="asking the worker for its status",
        cause=cause,
        remedy="start the worker with this http.address, or give its --url (operator)",
    )
