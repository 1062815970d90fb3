"""`oci-sync status`: how every source and sink stands, from the worker's listener, else from the topics alone."""

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from connector.cli import ExitCode, output
from connector.cli.output import OutputFormat
from connector.cli.worker_http import Json, WorkerUnreachable, ask, worker_url
from connector.config.worker_file import Worker, load_worker
from connector.errors import ConfigError
from connector.server.status_page import short_duration

_HEADS = ("source", "flow", "ready", "reason", "revision", "age", "next", "files", "message")

FromTopics = Callable[[Worker], Json]


def status(
    config: Annotated[Path | None, typer.Option("-c", "--worker", help="worker.yaml.")] = None,
    url: Annotated[str | None, typer.Option(help="The worker to ask; default: its http.address.")] = None,
    output_format: Annotated[OutputFormat, typer.Option("-o", "--output", help="How to write it.")] = (
        OutputFormat.TABLE
    ),
) -> None:
    """How every source and sink stands. Exit 0: all ready; 3: not ready."""
    document = read_status(load_worker(config), url, _from_topics)
    if output_format is OutputFormat.TABLE:
        sys.stdout.write(table(document, bold=output.is_colourful(sys.stdout)))
        if not (document["sources"] or document["sinks"]):
            sys.stderr.write("no source and no sink is known\n")
    else:
        sys.stdout.write(output.written(document, output_format))
    raise typer.Exit(ExitCode.DONE if document["ready"] else ExitCode.NOT_READY)


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
            if isinstance(error, WorkerUnreachable):
                sys.stderr.write(output.visible(f"{error}; asking Kafka what the topics tell") + "\n")
            return from_topics(worker)
        if isinstance(error, ConfigError):
            raise
        raise _no_worker(str(error)) from error
    if code != 200 or "sources" not in document:
        raise _no_worker(f"the answer was {code}: {document.get('error', 'not a status')}")
    return document


def table(document: Json, *, bold: bool = False) -> str:
    """The document for people: a line for each source and sink, then what else is wrong."""
    at = datetime.fromisoformat(document["at"])
    parts: list[str] = []
    if document["sources"]:
        parts.append(output.table([_source_row(one, at) for one in document["sources"]], _HEADS, bold=bold))
    if document["sinks"]:
        parts.append(output.table([_sink_row(one) for one in document["sinks"]], bold=bold))
    budgets = document.get("worker", {}).get("registries", ())
    if budgets:
        parts.append("".join(f"{output.visible(_budget(one))}\n" for one in budgets))
    shown = {
        f"{one['flow']}/{one.get('source') or one.get('sink')}: " for one in document["sources"] + document["sinks"]
    }
    others = [one for one in document["problems"] if not one.startswith(tuple(shown))]
    if others:
        parts.append("".join(f"! {output.visible(one)}\n" for one in others))
    return "\n".join(parts)


def _source_row(source: Json, at: datetime) -> Json:
    ready = _ready(source)
    values = (
        source["source"], source["flow"], ready["status"], ready["reason"], _short(source["revision"] or ""),
        _duration(_moment(source["last_change"]), at), _duration(at, _moment(source["next_tick"])), source["files"],
        ready["message"],
    )  # fmt: skip
    return dict(zip(_HEADS, values, strict=True))


def _sink_row(sink: Json) -> Json:
    ready = _ready(sink)
    return {
        "sink": sink["sink"],
        "flow": sink["flow"],
        "ready": ready["status"],
        "reason": ready["reason"],
        "topic": sink["topic"],
        "lag": sink["lag_records"],
        "message": ready["message"],
    }


def _budget(one: Json) -> str:
    of = f" of {one['limit']}" if one["limit"] is not None else ""
    return f"{one['registry']} lets us make {one['remaining']}{of} more requests"


def _ready(one: Json) -> Json:
    ready: Json = one["conditions"][0]
    return ready


def _short(revision: str) -> str:
    """Digests to twelve digits: enough to tell releases apart, and the line stays readable."""
    name, colon, digits = revision.rpartition(":")
    return f"{name}:{digits[:12]}…" if colon and len(digits) > 12 else revision


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _duration(start: datetime | None, end: datetime | None) -> str | None:
    return short_duration((end - start).total_seconds()) if start is not None and end is not None else None


def _no_worker(cause: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing="asking the worker for its status",
        cause=cause,
        remedy="start the worker with this http.address, or give its --url (operator)",
    )
