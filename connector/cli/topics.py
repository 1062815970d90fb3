"""`oci-sync topics create|check|acls`: the topics that flows need, made or looked at, and the ACLs for them."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from msgspec.structs import asdict

from connector.cli import ExitCode
from connector.cli.half import Half
from connector.cli.output import OutputFormat, show
from connector.config.flow_file import Flow, load_flows
from connector.config.worker_file import load_worker
from connector.kafka.topics import misfits, too_small
from connector.wiring.acls import acls_of
from connector.wiring.parts import Parts, open_parts
from connector.wiring.source_half import topic_specs

app = typer.Typer(no_args_is_help=True, help="The topics that flows need.")

FlowsArgument = Annotated[list[Path], typer.Argument(metavar="FLOW…", help="Flow files, or directories of them.")]
WorkerOption = Annotated[
    Path | None, typer.Option("-c", "--worker", help="worker.yaml; without it Kafka is at localhost:9092.")
]
FormatOption = Annotated[OutputFormat, typer.Option("-o", "--output", help="How to print it.")]


@app.command("create")
def create_topics(
    flows: FlowsArgument, worker_file: WorkerOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Create what is missing, with the settings that `run` would give; what exists is checked, never altered."""
    rows = asyncio.run(_create(worker_file, _usable(flows, "source")))
    show(rows, output)


@app.command("check")
def check_topics(
    flows: FlowsArgument, worker_file: WorkerOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Say of each topic whether it fits. Exit 1 where one is missing or would break a promise."""
    rows = asyncio.run(_check(worker_file, _usable(flows, "source")))
    show(rows, output)
    if any(row["state"] in ("missing", "misfit") for row in rows):
        raise typer.Exit(ExitCode.FAILED)


@app.command("acls")
def show_acls(
    flows: FlowsArgument,
    principal: Annotated[str, typer.Option(help="Who the worker is to Kafka, as the authorizer names it.")],
    worker_file: WorkerOption = None,
    only: Annotated[Half | None, typer.Option(help="As `run --only`: what one half needs.")] = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Print the commands that grant what these flows need, and no more. Asks nobody, changes nothing."""
    worker = load_worker(worker_file)
    acls = acls_of(worker, _usable(flows, only.value if only else None), only.value if only else None)
    if output is OutputFormat.TABLE:
        sys.stdout.write("".join(acl.command(worker.bootstrap, principal) + "\n" for acl in acls))
    else:
        show([asdict(acl) for acl in acls], output)


def _usable(paths: list[Path], only: Literal["source", "sink"] | None) -> tuple[Flow, ...]:
    loaded = load_flows(paths, only)
    for _, error in loaded.refused:
        raise error
    return loaded.flows


async def _create(worker_file: Path | None, flows: tuple[Flow, ...]) -> list[dict[str, str]]:
    async with open_parts(load_worker(worker_file)) as parts:
        await parts.topics.ensure(topic_specs(parts.worker, flows), "create")
        return await _rows(parts, flows)


async def _check(worker_file: Path | None, flows: tuple[Flow, ...]) -> list[dict[str, str]]:
    async with open_parts(load_worker(worker_file)) as parts:
        return await _rows(parts, flows)


async def _rows(parts: Parts, flows: tuple[Flow, ...]) -> list[dict[str, str]]:
    specs = topic_specs(parts.worker, flows)
    found = await parts.topics.describe([spec.name for spec in specs])
    rows: list[dict[str, str]] = []
    for spec in specs:
        topic = found.get(spec.name)
        if topic is None:
            rows.append({"topic": spec.name, "state": "missing", "message": "oci-sync topics create makes it"})
            continue
        wrong = [f"{cause}: {remedy}" for cause, remedy in misfits(spec, topic, parts.worker.bootstrap)]
        small = too_small(spec, topic, parts.worker.bootstrap)
        state = "misfit" if wrong else "small" if small else "fits"
        rows.append({"topic": spec.name, "state": state, "message": "; ".join(wrong) or small or ""})
    return rows
