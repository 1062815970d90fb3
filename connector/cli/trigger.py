"""`oci-sync trigger`, `pause`, `resume`: a command to the worker that runs a source, over its HTTP listener."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from connector.cli.worker_http import WorkerUnreachable, ask, worker_url
from connector.config.worker_file import load_worker
from connector.telemetry import printable

_FAILED = 1

Config = Annotated[Path | None, typer.Option("-c", "--worker", help="worker.yaml.")]
Url = Annotated[str | None, typer.Option(help="The worker to ask; default: its http.address.")]


def trigger(
    source: Annotated[str, typer.Argument(help="<flow>/<source>")], config: Config = None, url: Url = None
) -> None:
    """Let a source look at its registry now. Exit 0: accepted; 1: not."""
    _command("trigger", source, config, url)


def pause(
    source: Annotated[str | None, typer.Argument(help="<flow>/<source>; default: all")] = None,
    config: Config = None,
    url: Url = None,
) -> None:
    """Stop the ticks of a source, or of all. Exit 0: accepted; 1: not."""
    _command("pause", source, config, url)


def resume(
    source: Annotated[str | None, typer.Argument(help="<flow>/<source>; default: all")] = None,
    config: Config = None,
    url: Url = None,
) -> None:
    """Let the ticks go on. Exit 0: accepted; 1: not."""
    _command("resume", source, config, url)


def command_path(verb: str, source: str | None) -> str:
    """The path of a command. Raises typer.BadParameter where `source` is not `<flow>/<source>`."""
    if source is None:
        return f"/-/{verb}"
    flow, slash, name = source.partition("/")
    if not (flow and slash and name) or "/" in name:
        raise typer.BadParameter(f"{source!r} is not <flow>/<source>")
    return f"/-/{verb}/{quote(flow, safe='')}/{quote(name, safe='')}"


def _command(verb: str, source: str | None, config: Path | None, url: str | None) -> None:
    path = command_path(verb, source)
    try:
        code, document = ask(f"{worker_url(load_worker(config).http.address, url)}{path}", "POST")
    except WorkerUnreachable as error:
        typer.echo(printable(str(error)), err=True)
        raise typer.Exit(_FAILED) from error
    if code != 202:
        told = document.get("error", {})
        typer.echo(printable(f"{verb} refused: {told.get('reason')}: {told.get('message')}"), err=True)
        raise typer.Exit(_FAILED)
    typer.echo(f"{verb} accepted")
