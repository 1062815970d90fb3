"""The listener: which path answers what. Who may call it is decided in access.py, what it says in status and telemetry.

GET /healthz /readyz /status /metrics / read; POST /-/trigger/{flow}/{source}, /-/pause and /-/resume (of everything, or
of one /{flow}/{source}) and PUT /-/loglevel change something. A command that has nobody to do it answers 501.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware
from msgspec import Struct, field

from connector.errors import ConfigError, OciSyncError
from connector.server.access import Access, Refusal, refuse_command, refuse_host
from connector.server.metrics import Metrics
from connector.server.status_page import CONTENT_SECURITY_POLICY, render
from connector.status import SourceId, Status, as_json
from connector.telemetry import SECRETS, Telemetry, set_level

# The one body that is read is a word: "DEBUG".
_LARGEST_BODY_BYTES = 256
_COMMAND_SECONDS = 10
# Scrapers come each minute at most; a connection that is silent for longer only holds memory.
_KEEPALIVE_SECONDS = 75

Command = Callable[[SourceId], Awaitable[None]]
WideCommand = Callable[[SourceId | None], Awaitable[None]]
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Commands(Struct, frozen=True):
    """What a command calls, None where nobody can do it. `pause` and `resume` get None for all sources.

    Each returns once it is accepted, not once it is done; it raises an error of the tree to refuse.
    """

    trigger: Command | None = None
    pause: WideCommand | None = None
    resume: WideCommand | None = None


class Faces(Struct, frozen=True):
    """What the listener shows and does."""

    status: Status
    telemetry: Telemetry
    now: Callable[[], datetime]
    commands: Commands = field(default_factory=Commands)
    access: Access = field(default_factory=Access)


@asynccontextmanager
async def serve(address: str, faces: Faces) -> AsyncIterator[str]:
    """Listen while the context lasts; yields the URL, with the port that was given for 0.

    `address` is `host:port`, `[v6]:port`, or `:port` for all interfaces. Raises ConfigError BadValue where that cannot
    be listened on.
    """
    host, port = split_address(address)
    runner = web.AppRunner(
        application(faces),
        handle_signals=False,
        access_log=None,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=2.0,  # a scrape takes milliseconds; a drain must not wait for one that hangs
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host or None, port).start()
        except OSError as error:
            raise _cannot_listen(address, error.strerror or str(error)) from error
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"http://{shown}:{bound[1]}"
    finally:
        await runner.cleanup()


def split_address(address: str) -> tuple[str, int]:
    """Host ('' for all interfaces) and port. Raises ConfigError BadValue."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 65_536) or (":" in host and not bracketed):
        raise _cannot_listen(address, "it is not host:port, [v6 address]:port or :port")
    return host.strip("[]"), int(port)


def application(faces: Faces) -> web.Application:
    """The routes, guarded."""
    routes = _Routes(faces)
    app = web.Application(middlewares=[_guard(faces.access)], client_max_size=_LARGEST_BODY_BYTES)
    app.on_response_prepare.append(_harden)
    app.router.add_get("/", routes.page)
    app.router.add_get("/healthz", routes.healthz)
    app.router.add_get("/readyz", routes.readyz)
    app.router.add_get("/status", routes.status)
    app.router.add_get("/metrics", routes.metrics)
    app.router.add_post("/-/trigger/{flow}/{source}", routes.trigger)
    for verb, handler in (("pause", routes.pause), ("resume", routes.resume)):
        app.router.add_post(f"/-/{verb}", handler)
        app.router.add_post(f"/-/{verb}/{{flow}}/{{source}}", handler)
    app.router.add_put("/-/loglevel", routes.loglevel)
    return app


class _Routes:
    def __init__(self, faces: Faces) -> None:
        self._faces = faces
        self._metrics = Metrics(faces.status, faces.telemetry, faces.now)

    async def page(self, _: web.Request) -> web.Response:
        view = self._faces.status.view(self._faces.now())
        return web.Response(text=render(view), content_type="text/html")

    async def healthz(self, _: web.Request) -> web.Response:
        # That this runs shows that the event loop turns.
        if self._faces.status.alive(self._faces.now()):
            return web.Response(text="alive\n")
        return web.Response(status=503, text="the Kafka polling thread does not turn any more\n")

    async def readyz(self, _: web.Request) -> web.Response:
        why_not = self._faces.status.not_serving(self._faces.now())
        return web.Response(status=503 if why_not else 200, text=f"{why_not or 'ready'}\n")

    async def status(self, _: web.Request) -> web.Response:
        return _json(200, as_json(self._faces.status.view(self._faces.now())))

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def trigger(self, request: web.Request) -> web.Response:
        source = _source_of(request)
        assert source is not None
        return self._refuse_source(source) or await _run("trigger", self._faces.commands.trigger, source)

    async def pause(self, request: web.Request) -> web.Response:
        source = _source_of(request)
        return self._refuse_source(source) or await _run("pause", self._faces.commands.pause, source)

    async def resume(self, request: web.Request) -> web.Response:
        source = _source_of(request)
        return self._refuse_source(source) or await _run("resume", self._faces.commands.resume, source)

    async def loglevel(self, request: web.Request) -> web.Response:
        level = (await request.read()).decode("utf-8", "replace").strip()
        try:
            set_level(level)
        except ValueError as error:
            return _error(400, "BadValue", str(error))
        return _json(200, {"level": level.upper()})

    def _refuse_source(self, source: SourceId | None) -> web.Response | None:
        if source is None:
            return None
        try:
            owned = self._faces.status.owns(source)
        except KeyError:
            return _error(404, "NotFound", f"no flow file here names a source {'/'.join(source)}")
        if not owned:
            return _error(409, "NotOwner", f"this worker does not run {'/'.join(source)} now; ask the one that does")
        return None


async def _run(verb: str, command: Callable[[T], Awaitable[None]] | None, target: T) -> web.Response:
    if command is None:
        return _error(501, "NotImplemented", f"this worker was started without anything that can {verb}")
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            await command(target)
    except TimeoutError:
        return _error(504, "DeadlineExceeded", f"{verb} was not accepted within {_COMMAND_SECONDS} s")
    except OciSyncError as error:
        return _error(409, error.reason, str(error))
    return _json(202, {"accepted": verb})


def _source_of(request: web.Request) -> SourceId | None:
    found = request.match_info
    return SourceId(found["flow"], found["source"]) if "flow" in found else None


def _guard(access: Access) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        refusal = refuse_host(hosts[0] if len(hosts) == 1 else None, access)
        if refusal is None and request.method not in ("GET", "HEAD"):
            refusal = refuse_command(request.headers, request.remote, access)
        return _refused(refusal) if refusal else await handler(request)

    return guard


async def _harden(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"


def _refused(refusal: Refusal) -> web.Response:
    response = _error(refusal.status, "Forbidden", refusal.message)
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="oci-sync"'
    return response


def _error(status: int, reason: str, message: str) -> web.Response:
    return _json(status, {"error": {"reason": reason, "message": message}})


def _json(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(
        status=status, text=json.dumps(SECRETS.redact_values(body)) + "\n", content_type="application/json"
    )


def _cannot_listen(address: str, cause: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing=f"listening on http.address {address!r}",
        cause=cause,
        remedy="set another address in the worker file, or stop what holds it (operator)",
    )
