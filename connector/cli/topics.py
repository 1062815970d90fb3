"""`oci-sync topics create|check`: the topics that flows need, made or looked at, without running anything."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from connector.cli.output import OutputFormat, show
from connector.config.flow_file import Flow, load_flows
from connector.config.worker_file import load_worker
from connector.kafka.topics import misfits, too_small
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
    rows = asyncio.run(_create(worker_file, _usable(flows)))
    show(rows, output)


@app.command("check")
def check_topics(
    flows: FlowsArgument, worker_file: WorkerOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Say of each topic whether it fits. Exit 1 where one is missing or would break a promise."""
    rows = asyncio.run(_check(worker_file, _usable(flows)))
    show(rows, output)
    if any(row["state"] in ("missing", "misfit") for row in rows):
        raise typer.Exit(1)


def _usable(paths: list[Path]) -> tuple[Flow, ...]:
    loaded = load_flows(paths, "source")
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
