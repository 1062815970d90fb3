"""`oci-sync schemas`: the Avro schemas of our records: print them, register them, check what a registry holds."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from connector.cli import ExitCode
from connector.cli.output import OutputFormat, show
from connector.config.flow_file import load_flows
from connector.config.worker_file import Worker, load_worker
from connector.errors import ConfigError
from connector.kafka.schema_registry import SchemaRegistry
from connector.records.schemas import FILE_KEY, FILE_VALUE, SOURCE_OFFSET, asyncapi_text, schema_text
from connector.wiring.schemas import Subject, check_subject, register_subject, subjects_of
from connector.wiring.source_half import build_schema_registry

app = typer.Typer(no_args_is_help=True, help="The Avro schemas of our records, and a schema registry.")

Flows = Annotated[list[Path], typer.Argument(metavar="FLOW…", help="Flow files, or directories of them.")]
WorkerFile = Annotated[Path | None, typer.Option("-c", "--worker", help="worker.yaml with the schema registry.")]
Output = Annotated[OutputFormat, typer.Option("-o", "--output", help="How to print it.")]


class Printed(StrEnum):
    """What can be printed."""

    KEY = "key"
    VALUE = "value"
    OFFSET = "offset"
    ASYNCAPI = "asyncapi"


@app.command("print")
def print_schema(
    which: Annotated[Printed, typer.Argument(help="A file's key or value, the source offset, or all topics.")],
) -> None:
    """The Avro schema of a key, a value or a source offset; or the AsyncAPI description of the topics."""
    names = {Printed.KEY: FILE_KEY, Printed.VALUE: FILE_VALUE, Printed.OFFSET: SOURCE_OFFSET}
    text = asyncapi_text() if which is Printed.ASYNCAPI else schema_text(names[which])
    typer.echo(text, nl=False)


@app.command()
def register(flows: Flows, worker_file: WorkerFile = None, output: Output = OutputFormat.TABLE) -> None:
    """Register what the flows need, each subject with its compatibility level; once, for `auto_register: false`."""
    show(asyncio.run(_each(flows, worker_file, register_subject)), output, "no flow writes Avro")


@app.command()
def check(flows: Flows, worker_file: WorkerFile = None, output: Output = OutputFormat.TABLE) -> None:
    """Compare what the flows need with what the registry holds: 1 if anything is incompatible, or may not be added."""
    rows = asyncio.run(_each(flows, worker_file, check_subject))
    show(rows, output, "no flow writes Avro")
    fields = load_worker(worker_file).schema_registry
    bad = {"incompatible"} if fields is None or fields.auto_register else {"incompatible", "missing"}
    if any(row["state"] in bad for row in rows):
        raise typer.Exit(ExitCode.FAILED)


async def _each(
    flows: list[Path],
    worker_file: Path | None,
    ask: Callable[[SchemaRegistry, Subject], Awaitable[dict[str, object]]],
) -> list[dict[str, object]]:
    """One row for each subject of the flows. Flow files that are wrong are said, and end it."""
    worker = load_worker(worker_file)
    loaded = load_flows(flows, "source")
    for _, error in loaded.refused:
        sys.stderr.write(f"{error}\n")
    if loaded.refused:
        raise typer.Exit(ExitCode.FAILED)
    registry = _registry(worker)
    return [await ask(registry, subject) for subject in subjects_of(worker, loaded.flows)]


def _registry(worker: Worker) -> SchemaRegistry:
    registry = build_schema_registry(worker)
    if registry is None:
        raise ConfigError(
            reason="MissingField",
            doing="looking for the schema registry",
            cause="the worker file names none",
            remedy="set schema_registry.url in worker.yaml and give it with -c (operator)",
        )
    return registry
