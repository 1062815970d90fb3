"""`oci-sync trigger`: let a source look at its registry now, whichever worker owns it; asked through Kafka."""

import asyncio
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from connector.cli import ExitCode
from connector.cli.output import visible
from connector.cli.worker_http import WorkerUnreachable, worker_url
from connector.cli.worker_http import ask as ask_over_http
from connector.config.worker_file import load_worker
from connector.records.request import RequestKind
from connector.telemetry import printable
from connector.wiring.asking import ask, find, known
from connector.wiring.asking import resume as take_back
from connector.wiring.parts import open_parts

WorkerFile = Annotated[Path | None, typer.Option("-c", "--worker", help="worker.yaml.")]
Url = Annotated[str | None, typer.Option(help="Ask this worker over HTTP instead of the owner through Kafka.")]
Wait = Annotated[float, typer.Option("--timeout", help="Seconds to wait until it was carried out.")]
Name = Annotated[str, typer.Argument(metavar="SOURCE", help="<flow>/<task>, a flow, or an artifact as configured.")]
AnyName = Annotated[
    str | None, typer.Argument(metavar="SOURCE", help="<flow>/<task>, a flow, or an artifact; default: all.")
]


def trigger(
    source: Name,
    worker_file: WorkerFile = None,
    url: Url = None,
    force: Annotated[bool, typer.Option("--force", help="Pull and emit although nothing changed.")] = False,
    timeout: Wait = 30.0,
) -> None:
    """Let a source look at its registry now. Exit 0: it did; 1: refused; 4: nobody did within the time-out."""
    if url is not None:
        _over_http("trigger", source, url)
    else:
        asyncio.run(_ask(RequestKind.TRIGGER, source, worker_file, force=force, timeout=timeout))


def pause(source: AnyName = None, worker_file: WorkerFile = None, url: Url = None) -> None:
    """Stop the ticks of a source, or of all, until `resume`; kept in Kafka, so it outlives restarts."""
    if url is not None:
        _over_http("pause", source, url)
    else:
        asyncio.run(_ask(RequestKind.PAUSE, source, worker_file, force=False, timeout=0))


def resume(source: AnyName = None, worker_file: WorkerFile = None, url: Url = None) -> None:
    """Let the ticks go on."""
    if url is not None:
        _over_http("resume", source, url)
    else:
        asyncio.run(_resume(source, worker_file))


async def _ask(kind: RequestKind, name: str | None, worker_file: Path | None, *, force: bool, timeout: float) -> None:
    async with open_parts(load_worker(worker_file)) as parts:
        now, late = await known(parts), False
        for source in now.sources if name is None else find(now.sources, name):
            done = await ask(parts, now, kind, source, force=force, wait_seconds=timeout)
            late |= not done
            told = "paused" if kind is RequestKind.PAUSE else "done" if done else "waits: no owner has done it yet"
            typer.echo(printable(f"{source.name}: {told}"))
    if late:
        raise typer.Exit(ExitCode.TIMED_OUT)


async def _resume(name: str | None, worker_file: Path | None) -> None:
    async with open_parts(load_worker(worker_file)) as parts:
        now = await known(parts)
        for source in now.sources if name is None else find(now.sources, name):
            await take_back(parts, now, source)
            typer.echo(printable(f"{source.name}: resumed"))


def command_path(verb: str, source: str | None) -> str:
    """The path of a command. Raises typer.BadParameter where `source` is not `<flow>/<source>`."""
    if source is None:
        return f"/-/{verb}"
    flow, slash, name = source.partition("/")
    if not (flow and slash and name) or "/" in name:
        raise typer.BadParameter(f"{source!r} is not <flow>/<source>")
    return f"/-/{verb}/{quote(flow, safe='')}/{quote(name, safe='')}"


def _over_http(verb: str, source: str | None, url: str) -> None:
    path = command_path(verb, source)
    try:
        code, document = ask_over_http(f"{worker_url(None, url)}{path}", "POST")
    except WorkerUnreachable as error:
        typer.echo(visible(str(error)), err=True)
        raise typer.Exit(ExitCode.FAILED) from error
    if code != 202:
        told = document.get("error", {})
        typer.echo(visible(f"{verb} refused: {told.get('reason')}: {told.get('message')}"), err=True)
        raise typer.Exit(ExitCode.FAILED)
    typer.echo(f"{verb} accepted")
