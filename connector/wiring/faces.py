"""The faces over HTTP, where the worker file asks for them, and what they show of the flow files."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from connector.config.flow_file import LoadedFlows
from connector.errors import ConfigError, OutputError
from connector.records.request import RequestKind
from connector.status import SourceId
from connector.telemetry import SECRETS
from connector.wiring.asking import KnownSource, ask, find, known
from connector.wiring.asking import resume as take_back
from connector.wiring.parts import Parts


def show_flows(parts: Parts, loaded: LoadedFlows) -> None:
    """Make each flow file a part of the status: in use, or refused with its reason."""
    for flow in loaded.flows:
        parts.status.flow_loaded(str(flow.path), _now(), flow.name)
    for path, error in loaded.refused:
        parts.status.flow_failed(str(path), _now(), error)


@asynccontextmanager
async def open_faces(parts: Parts, tick_now: Callable[[SourceId], bool]) -> AsyncIterator[str]:
    """Probes, status, metrics and the commands, while the context lasts. Yields the URL. Raises ConfigError.

    `tick_now` is `Worker.trigger`: False where this worker does not run the source.
    """
    assert parts.worker.http.address is not None
    # The server brings a web framework and the metrics library along: a worker without a listener starts without them.
    routes = import_module("connector.server.routes")
    access = import_module("connector.server.access")

    async def trigger(source: SourceId) -> None:
        if not tick_now(source):
            raise OutputError(
                reason="NotOwner",
                doing=f"triggering {'/'.join(source)}",
                cause="this worker does not run the source now",
                remedy="ask the worker that owns it: oci-sync status shows where it runs (operator)",
            )

    async def pause(source: SourceId | None) -> None:
        now = await known(parts)
        for one in _meant(now.sources, source):
            await ask(parts, now, RequestKind.PAUSE, one)

    async def resume(source: SourceId | None) -> None:
        now = await known(parts)
        for one in _meant(now.sources, source):
            await take_back(parts, now, one)

    fields = parts.worker.http
    faces = routes.Faces(
        status=parts.status,
        telemetry=parts.telemetry,
        now=_now,
        commands=routes.Commands(trigger=trigger, pause=pause, resume=resume),
        access=access.Access(allowed_hosts=frozenset(fields.allowed_hosts), token=_token(fields.token_file)),
    )
    async with routes.serve(fields.address, faces) as url:
        yield url


def _meant(sources: tuple[KnownSource, ...], source: SourceId | None) -> list[KnownSource]:
    return list(sources) if source is None else find(sources, "/".join(source))


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            reason="FileUnreadable",
            doing=f"reading the token of the HTTP listener from {path}",
            cause=getattr(error, "strerror", None) or "it is not text",
            remedy="correct http.token_file in worker.yaml (operator)",
        ) from error
    if not token:
        raise ConfigError(
            reason="BadValue",
            doing=f"reading the token of the HTTP listener from {path}",
            cause="the file is empty, and an empty token would let everybody in",
            remedy="put a token into it, or take http.token_file out of worker.yaml (operator)",
        )
    SECRETS.add(token)
    return token


def _now() -> datetime:
    return datetime.now(UTC)
