"""`oci-sync offsets list|get|reset|set`: where each source stands, read from Kafka alone, and changed by its owner."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from connector.cli.output import OutputFormat, show
from connector.config.worker_file import load_worker
from connector.oci.digest import parse_digest
from connector.records.request import RequestKind
from connector.records.source_offset import SourceOffset
from connector.wiring.asking import KnownSource, ask, find, known
from connector.wiring.parts import open_parts

app = typer.Typer(no_args_is_help=True, help="Where each source stands.")

WorkerOption = Annotated[
    Path | None, typer.Option("-c", "--worker", help="worker.yaml; without it Kafka is at localhost:9092.")
]
NameArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="<flow>/<task>, a flow, or an artifact as configured.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
TimeoutOption = Annotated[float, typer.Option(help="Seconds to wait until the owner did it.")]
FormatOption = Annotated[OutputFormat, typer.Option("-o", "--output", help="How to print it.")]


@app.command("list")
def list_offsets(worker_file: WorkerOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Every source offset in the offsets topic."""
    rows = [_summary(one.flow, one.offset) for one in asyncio.run(_known(worker_file)) if one.offset is not None]
    show(rows, output, empty="no source has committed a pull yet")


@app.command("get")
def get_offset(name: NameArgument, worker_file: WorkerOption = None, output: FormatOption = OutputFormat.YAML) -> None:
    """One source offset whole, with its paths."""
    found = [one for one in find(asyncio.run(_known(worker_file)), name) if one.offset is not None]
    rows = [_summary(one.flow, one.offset) | {"paths": dict(one.offset.paths)} for one in found if one.offset]
    show(rows, output, empty="this source has committed no pull yet")


@app.command("reset")
def reset_offset(
    name: NameArgument, worker_file: WorkerOption = None, yes: YesOption = False, timeout: TimeoutOption = 30.0
) -> None:
    """Forget: the next tick pulls again and sends every file. By the owner, or as a member where no worker lives."""
    asyncio.run(_change(RequestKind.RESET, name, worker_file, None, yes=yes, timeout=timeout))


@app.command("set")
def set_offset(
    name: NameArgument,
    digest: Annotated[str, typer.Option(help="The digest to take for delivered, sha256:…")],
    worker_file: WorkerOption = None,
    yes: YesOption = False,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Take a digest for delivered, so that it is not pulled: for those who know that readers have it."""
    try:
        parse_digest(digest)
    except ValueError as error:
        raise typer.BadParameter(f"{digest!r} is no digest: {error}") from error
    asyncio.run(_change(RequestKind.SET, name, worker_file, digest, yes=yes, timeout=timeout))


async def _known(worker_file: Path | None) -> tuple[KnownSource, ...]:
    async with open_parts(load_worker(worker_file)) as parts:
        return (await known(parts)).sources


async def _change(
    kind: RequestKind, name: str, worker_file: Path | None, digest: str | None, *, yes: bool, timeout: float
) -> None:
    late = False
    async with open_parts(load_worker(worker_file)) as parts:
        now = await known(parts)
        meant = find(now.sources, name)
        for one in meant:
            files = "" if one.offset is None else f" ({one.offset.files} files at {one.offset.digest})"
            what = "the next tick pulls again and sends every file" if digest is None else f"{digest} counts as sent"
            typer.echo(f"{one.name}{files}: {what}", err=True)
        who = "asks the worker that owns it" if now.members else "no worker lives: this process joins the group for it"
        if not yes and not typer.confirm(f"{who}; go on?", err=True):
            raise typer.Exit(1)
        for one in meant:
            done = await ask(parts, now, kind, one, digest=digest, wait_seconds=timeout)
            late |= not done
            typer.echo(f"{one.name}: {'done' if done else 'waits: no live worker carries it'}")
    if late:
        raise typer.Exit(4)


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
