"""`oci-sync offsets list|get`: where each source stands, read from Kafka alone."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from connector.cli.output import OutputFormat, show
from connector.config.worker_file import load_worker
from connector.errors import OutputError
from connector.kafka.record import Record
from connector.records.source_offset import SourceOffset, read_offset, split_offset_key
from connector.wiring.parts import open_parts

app = typer.Typer(no_args_is_help=True, help="Where each source stands.")

WorkerOption = Annotated[
    Path | None, typer.Option("-c", "--worker", help="worker.yaml; without it Kafka is at localhost:9092.")
]
FormatOption = Annotated[OutputFormat, typer.Option("-o", "--output", help="How to print it.")]


@app.command("list")
def list_offsets(worker_file: WorkerOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Every source offset in the offsets topic."""
    offsets = asyncio.run(_read(worker_file))
    rows = [_summary(flow, offset) for (flow, _), offset in sorted(offsets.items())]
    show(rows, output, empty="no source has committed a pull yet")


@app.command("get")
def get_offset(
    name: Annotated[str, typer.Argument(metavar="FLOW|ARTIFACT", help="A flow's name or an artifact as configured.")],
    worker_file: WorkerOption = None,
    output: FormatOption = OutputFormat.YAML,
) -> None:
    """One source offset whole, with its paths."""
    offsets = asyncio.run(_read(worker_file))
    found = [(flow, offset) for (flow, artifact), offset in sorted(offsets.items()) if name in (flow, artifact)]
    if not found:
        known = ", ".join(sorted({flow for flow, _ in offsets})) or "none"
        raise OutputError(
            reason="OffsetLost",
            doing=f"looking for the source offset of {name}",
            cause=f"there is none; flows with offsets: {known}",
            remedy="check the name; a source has no offset before its first commit",
        )
    show([_summary(flow, offset) | {"paths": dict(offset.paths)} for flow, offset in found], output)


async def _read(worker_file: Path | None) -> dict[tuple[str, str], SourceOffset]:
    async with open_parts(load_worker(worker_file)) as parts:
        topic = parts.worker.offsets.topic
        found = (await parts.topics.describe([topic])).get(topic)
        if found is None:
            raise OutputError(
                reason="TopicMissing",
                doing=f"reading the offsets topic {topic}",
                cause=f"the cluster at {parts.worker.bootstrap} has no such topic",
                remedy="check offsets.topic and kafka in worker.yaml; a worker creates it at its first start",
            )
        restored = await parts.changelog.read(topic, list(range(found.partitions)), _offset)
    entries: dict[tuple[str, str], SourceOffset] = {}
    for partition in restored.values():
        for key, offset in partition.entries.items():
            name = split_offset_key(key)
            if name is not None and offset is not None:
                entries[name] = offset
    return entries


def _offset(record: Record) -> SourceOffset | None:
    if split_offset_key(record.key) is None or record.value is None:
        return None
    return read_offset(record.key, record.value)


def _summary(flow: str, offset: SourceOffset) -> dict[str, Any]:
    committed = datetime.fromtimestamp(offset.committed_at / 1000, UTC)
    return {
        "flow": flow,
        "artifact": offset.artifact,
        "digest": offset.digest,
        "files": offset.files,
        "deletes": offset.deletes,
        "bytes": offset.bytes,
        "committed_at": committed.isoformat(timespec="seconds"),
        "pull_id": offset.pull_id,
        "worker": offset.worker,
    }
