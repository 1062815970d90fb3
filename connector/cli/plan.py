"""`oci-sync plan`: what the next pull would add, change and remove; writes nothing."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from connector.cli import ExitCode
from connector.cli.output import OutputFormat, show
from connector.config.flow_file import Flow, load_flows
from connector.config.worker_file import load_worker
from connector.kafka.topics import Topic
from connector.records.file_record import Change
from connector.source.outcome import Unchanged
from connector.source.restore import Restorer
from connector.telemetry import printable
from connector.wiring.parts import Parts, open_parts
from connector.wiring.source_half import build_sources, topic_specs


def plan(
    flows: Annotated[list[Path], typer.Argument(metavar="FLOW…", help="Flow files, or directories of them.")],
    worker_file: Annotated[
        Path | None, typer.Option("-c", "--worker", help="worker.yaml; without it Kafka is at localhost:9092.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Unchanged files too.")] = False,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="How to print it.")] = OutputFormat.TABLE,
) -> None:
    """Ask the registry and compare with the source offset. Exit 0: nothing to do; 2: changes; 1: error."""
    loaded = load_flows(flows, "source")
    for _, error in loaded.refused:
        raise error
    rows, changed = asyncio.run(_plan(worker_file, loaded.flows))
    shown = rows if everything else [row for row in rows if row["change"] != "unchanged"]
    show(shown, output, empty="nothing to do")
    raise typer.Exit(ExitCode.CHANGES if changed else ExitCode.DONE)


async def _plan(worker_file: Path | None, flows: Sequence[Flow]) -> tuple[list[dict[str, Any]], bool]:
    rows: list[dict[str, Any]] = []
    changed = False
    async with open_parts(load_worker(worker_file)) as parts:
        topics = await _topics(parts, flows)
        restorer = Restorer(parts.changelog, parts.worker.offsets.topic)
        exists = parts.worker.offsets.topic in await parts.topics.describe([parts.worker.offsets.topic])
        for scheduled in build_sources(parts, flows, topics):
            source = scheduled.source
            offset, paths = None, {}
            if exists and source.topic in await parts.topics.describe([source.topic]):
                restored = await restorer.restore(source.offset_partition, [source])
                offset = restored.offsets.get(source.offset_key)
                paths = dict(restored.known_paths[source.offset_key])
            planned = await scheduled.ticker.plan(offset, paths)
            name = f"{source.flow}/{source.name}"
            if isinstance(planned, Unchanged):
                typer.echo(printable(f"{name}: unchanged at {planned.digest}"), err=True)
                continue
            changed = True
            counts = {kind.value: sum(one is kind for one in planned.changes.values()) for kind in Change}
            told = ", ".join(f"{count} {word}" for word, count in counts.items())
            size = sum(planned.sizes.values())
            typer.echo(
                printable(f"{name}: {planned.digest}: {told}; {len(planned.changes)} records, {size} bytes"), err=True
            )
            rows += [
                {"source": name, "change": change.value, "path": path, "bytes": planned.sizes.get(path, 0)}
                for path, change in planned.changes.items()
            ]
    return rows, changed


async def _topics(parts: Parts, flows: Sequence[Flow]) -> dict[str, Topic]:
    """The flows' topics as they are, or as run would make them."""
    specs = topic_specs(parts.worker, flows)
    found = await parts.topics.describe([spec.name for spec in specs])
    return {spec.name: found.get(spec.name) or Topic(spec.name, spec.partitions, None) for spec in specs}
