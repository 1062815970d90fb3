"""A real OCI registry over HTTP on loopback, in a thread of its own, that can publish, fail, cut and count.

    async with FakeRegistry() as registry:                       # or `with`, in a test without an event loop
        first = registry.publish("org/app", "prod", {"a.yaml": b"a: 1\n"})
        reference = registry.reference("org/app", "prod")        # "127.0.0.1:43210/org/app:prod"
        registry.fail_next(503, {"Retry-After": "1"})            # the next request, whatever it asks
        registry.cut_after(100, on="/blobs/")                    # the next blob breaks off after 100 bytes
        ...
        assert [seen.method for seen in registry.requests] == ["HEAD"]

Since it runs in its own thread, subprocesses and synchronous tests can use it too. What a fault applies to is chosen
by `on`: a text that `"<METHOD> <path>"` must contain (`"HEAD "`, `"/blobs/"`, `"GET /token"`, a digest). Faults are
used up in the order they were given, `times` each. `requests` holds every request that came, in order, with its
headers (names in lower case) and a number for its connection.

Authentication: `FakeRegistry(auth="basic")` and `auth="bearer"` ask for `users` (one user "ci" with the password
"correct-horse"); `anonymous=True` gives a token to who asks without credentials. The token endpoint is `/token` of
the same server unless `realm` names another; it knows GET with Basic and POST with `grant_type=refresh_token`
(`refresh_tokens`) or `password`. `forget_tokens()` makes all that were given out worthless.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs

from aiohttp import web

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
PASSWORD = "correct-horse"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def sha256(data: bytes) -> str:
    """The digest of the bytes, with its algorithm."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came: method, path with query, headers in lower case, connection number, body.

    `target` is the request's target, byte for byte, while the path is decoded as servers do.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    connection: int
    body: bytes
    target: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer to publish. `digest` and `size` are computed unless a test wants to lie."""

    data: bytes
    media_type: str = "application/vnd.oci.image.layer.v1.tar"
    annotations: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    size: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def descriptor(self) -> dict[str, Any]:
        """The layer as it stands in a manifest."""
        document: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest or sha256(self.data),
            "size": len(self.data) if self.size is None else self.size,
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document | dict(self.extra)


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish made: the digest that the tag names now, and the manifest's bytes."""

    digest: str
    body: bytes
    media_type: str
    layers: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Length of the manifest."""
        return len(self.body)


@dataclass(slots=True)
class _Fault:
    on: str
    times: int
    handler: Handler


class FakeRegistry:
    """See the module's docstring. Attributes that a test may set at any time are those of `__init__`."""

    def __init__(
        self,
        *,
        auth: Literal["none", "basic", "bearer"] = "none",
        users: Mapping[str, str] | None = None,
        anonymous: bool = False,
        realm: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.auth = auth
        self.users = dict(users or {"ci": PASSWORD})
        self.anonymous = anonymous
        self.realm = realm
        self.challenges: list[str] | None = None  # overrides the WWW-Authenticate headers
        self.service: str | None = "fake"
        self.challenge_scope = True  # whether the challenge names a scope
        self.refresh_tokens: set[str] = set()
        self.token_post = True  # whether the token endpoint knows POST
        self.token_answer: dict[str, Any] = {"expires_in": 300}  # merged over {"token": …}
        self.denied_status = 401  # what a request with a bad or expired token gets
        self.digest_header = True
        self.rate_limit_headers: dict[str, str] = {}
        self.ranges = True  # whether Range is honoured
        self.requests: list[Seen] = []
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, set[str]] = {}
        self.tag_page_size = 1000
        self._tls = tls
        self._tokens: set[str] = set()
        self._token_count = 0
        self._faults: list[_Fault] = []
        self._connections: dict[str, int] = {}
        self._port = 0
        self._news = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    # ---- what a test publishes -------------------------------------------------------------------------------

    def publish(
        self,
        repository: str,
        tag: str | None,
        files: Mapping[str, bytes],
        *,
        media_type: str = "application/yaml",
        **fields: Any,
    ) -> Published:
        """An artifact as `oras push` makes it: one raw layer a file, titled with its path."""
        layers = [Layer(data, media_type, {TITLE: path}) for path, data in files.items()]
        return self.publish_layers(repository, tag, layers, **fields)

    def publish_layers(
        self, repository: str, tag: str | None, layers: Sequence[Layer], *, media_type: str = MANIFEST, **fields: Any
    ) -> Published:
        """A manifest of these layers; `fields` are added to it (or replace what stands there)."""
        for layer in layers:
            self.blobs[layer.digest or sha256(layer.data)] = layer.data
        self.blobs[sha256(b"{}")] = b"{}"
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "artifactType": "application/vnd.example.flows.v1",
            "config": {"mediaType": EMPTY, "digest": sha256(b"{}"), "size": 2},
            "layers": [layer.descriptor() for layer in layers],
        } | fields
        document = {name: value for name, value in document.items() if value is not ...}
        published = self.publish_manifest(repository, tag, json.dumps(document).encode(), media_type)
        digests = tuple(layer.digest or sha256(layer.data) for layer in layers)
        return Published(published.digest, published.body, media_type, digests)

    def publish_index(
        self, repository: str, tag: str | None, children: Sequence[tuple[Published, Mapping[str, str] | None]]
    ) -> Published:
        """An index of published manifests, each with its platform (`{"os": …, "architecture": …}`) or None."""
        manifests = []
        for child, platform in children:
            entry: dict[str, Any] = {"mediaType": child.media_type, "digest": child.digest, "size": child.size_bytes}
            if platform is not None:
                entry["platform"] = dict(platform)
            manifests.append(entry)
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return self.publish_manifest(repository, tag, json.dumps(document).encode(), INDEX)

    def publish_manifest(
        self, repository: str, tag: str | None, body: bytes, media_type: str, *, digest: str | None = None
    ) -> Published:
        """These bytes as a manifest, whatever they are; `digest` may lie."""
        digest = digest or sha256(body)
        self.manifests[digest] = (body, media_type)
        self.repositories.setdefault(repository, set()).add(digest)
        if tag is not None:
            self.tags[repository, tag] = digest
        return Published(digest, body, media_type)

    def move_tag(self, repository: str, tag: str, digest: str) -> None:
        """Let the tag name something else that was published."""
        self.tags[repository, tag] = digest

    def delete_tag(self, repository: str, tag: str) -> None:
        """The tag is gone; its manifest stays."""
        del self.tags[repository, tag]

    def reference(self, repository: str, tag: str = "prod", digest: str | None = None) -> str:
        """The text a flow file would hold."""
        return f"{self.address}/{repository}@{digest}" if digest else f"{self.address}/{repository}:{tag}"

    # ---- what a test breaks ----------------------------------------------------------------------------------

    def answer(self, handler: Handler, *, on: str = "", times: int = 1) -> None:
        """Let this aiohttp.web handler answer the next `times` requests that match."""
        self._faults.append(_Fault(on, times, handler))

    def fail_next(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        code: str | None = None,
        on: str = "",
        times: int = 1,
    ) -> None:
        """Answer with this status; `code` makes the body an OCI error document."""
        if body is None:
            body = json.dumps({"errors": [{"code": code, "message": "made up"}]}).encode() if code else b""

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=status, headers=dict(headers or {}), body=body)

        self.answer(handler, on=on, times=times)

    def cut_after(self, count: int, *, on: str = "/blobs/", times: int = 1, chunked: bool = False) -> None:
        """Send the right head and only `count` bytes of the body, then close the connection.

        `chunked`: without Content-Length, so that only the size of the descriptor can show the cut.
        """

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            whole = await self._answer(request)
            body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
            headers = {k: v for k, v in whole.headers.items() if k not in ("Content-Length", "Content-Type")}
            response = web.StreamResponse(status=whole.status, headers=headers)
            response.content_type = whole.content_type
            if chunked:
                response.headers["Connection"] = "close"
                response.force_close()
            else:
                response.content_length = len(body)
            await response.prepare(request)
            await response.write(body[:count])
            if chunked:
                await response.write_eof()
            elif request.transport is not None:
                request.transport.close()
            return response

        self.answer(handler, on=on, times=times)

    def drip(self, chunk: int, pause_seconds: float, *, on: str = "/blobs/", times: int = 1) -> None:
        """Send the right answer, `chunk` bytes at a time with a pause after each."""

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            whole = await self._answer(request)
            body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
            response = web.StreamResponse(status=whole.status)
            response.content_length = len(body)
            response.content_type = whole.content_type
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):  # the client had enough
                for start in range(0, len(body), chunk):
                    await response.write(body[start : start + chunk])
                    await asyncio.sleep(pause_seconds)
            return response

        self.answer(handler, on=on, times=times)

    def redirect(self, to: str, *, on: str = "/blobs/", status: int = 307, times: int = 1_000_000) -> None:
        """Redirect what matches; `{digest}` in `to` stands for the last part of the path.

        `http://<other fake>/storage/{digest}` is a place every fake serves its blobs at, without authentication.
        """

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            location = to.replace("{digest}", request.path.rpartition("/")[2])
            return web.Response(status=status, headers={"Location": location})

        self.answer(handler, on=on, times=times)

    def heal(self) -> None:
        """Forget all faults that were not used up."""
        self._faults.clear()

    def forget_tokens(self) -> None:
        """All tokens that were given out are worthless from now on."""
        self._tokens.clear()

    # ---- what a test asks ------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """`127.0.0.1:<port>`."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    def count(self, on: str) -> int:
        """How many requests matched `on`, as faults match."""
        return sum(on in f"{seen.method} {seen.path}" for seen in self.requests)

    async def wait_for(self, on: str, times: int = 1, timeout_seconds: float = 5.0) -> None:
        """Return when so many requests that match have come. Raises TimeoutError."""

        def wait() -> bool:
            with self._news:
                return self._news.wait_for(lambda: self.count(on) >= times, timeout_seconds)

        if not await asyncio.to_thread(wait):
            raise TimeoutError(f"{self.count(on)} of {times} requests matched {on!r}")

    @property
    def secrets_seen(self) -> set[str]:
        """All Authorization, Cookie and X-* header values that came, and the bodies of POSTs."""
        values = {
            value
            for seen in self.requests
            for name, value in seen.headers.items()
            if name in ("authorization", "cookie") or name.startswith("x-")
        }
        return values | {seen.body.decode() for seen in self.requests if seen.body}

    # ---- the server ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise TimeoutError("the fake registry did not start within 10 s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._thread is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _run(self, started: threading.Event) -> None:
        asyncio.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self._port = runner.addresses[0][1]
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path_qs
        peer = str(request.transport.get_extra_info("peername")) if request.transport else ""
        connection = self._connections.setdefault(peer, len(self._connections))
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen = Seen(request.method, path, headers, connection, await request.read(), request.raw_path)
        with self._news:
            self.requests.append(seen)
            self._news.notify_all()
        fault = self._take_fault(f"{request.method} {path}")
        if fault is not None:
            return await fault(request)
        return await self._answer(request)

    def _take_fault(self, line: str) -> Handler | None:
        for fault in self._faults:
            if fault.on in line:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault.handler
        return None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.startswith("/storage/"):
            return self._blob(request, path.rpartition("/")[2])
        if path == "/token":
            return await self._token(request)
        if not path.startswith("/v2/"):
            return web.Response(status=404, text="not here")
        denied = self._deny(request, path)
        if denied is not None:
            return denied
        for kind, answer in (("/manifests/", self._manifest), ("/blobs/", self._named_blob)):
            repository, separator, name = path.removeprefix("/v2/").partition(kind)
            if separator:
                return answer(request, repository, name)
        if path.endswith("/tags/list"):
            return self._tag_list(request, path.removeprefix("/v2/").removesuffix("/tags/list"))
        return web.Response(status=200 if path == "/v2/" else 404)

    def _manifest(self, request: web.BaseRequest, repository: str, name: str) -> web.Response:
        digest = name if ":" in name else self.tags.get((repository, name), "")
        if digest not in self.repositories.get(repository, set()):
            return self._error(404, "MANIFEST_UNKNOWN")
        body, media_type = self.manifests[digest]
        accept = request.headers.get("Accept", "")
        if media_type not in accept and "vnd." in media_type:
            return self._error(404, "MANIFEST_UNKNOWN")  # what distribution does with a type that is not accepted
        headers = {"Content-Type": media_type, **self.rate_limit_headers}
        if self.digest_header:
            headers["Docker-Content-Digest"] = digest
        return web.Response(body=body, headers=headers)

    def _named_blob(self, request: web.BaseRequest, repository: str, digest: str) -> web.Response:
        if repository not in self.repositories:
            return self._error(404, "NAME_UNKNOWN")
        return self._blob(request, digest)

    def _blob(self, request: web.BaseRequest, digest: str) -> web.Response:
        data = self.blobs.get(digest)
        if data is None:
            return self._error(404, "BLOB_UNKNOWN")
        headers = {"Content-Type": "application/octet-stream"}
        start = request.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        if self.ranges and start.isdigit():
            if int(start) >= len(data):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return web.Response(status=206, body=data[int(start) :], headers=headers)
        return web.Response(body=data, headers=headers)

    def _tag_list(self, request: web.BaseRequest, repository: str) -> web.Response:
        if repository not in self.repositories:
            return self._error(404, "NAME_UNKNOWN")
        names = sorted(tag for known, tag in self.tags if known == repository)
        last = request.query.get("last", "")
        rest = [name for name in names if name > last]
        page = rest[: self.tag_page_size]
        headers = {}
        if len(rest) > len(page):
            headers["Link"] = f'</v2/{repository}/tags/list?n={self.tag_page_size}&last={page[-1]}>; rel="next"'
        return web.json_response({"name": repository, "tags": page}, headers=headers)

    # ---- authentication --------------------------------------------------------------------------------------

    def _deny(self, request: web.BaseRequest, path: str) -> web.Response | None:
        if self.auth == "none":
            return None
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if self.auth == "basic" and scheme == "Basic" and self._user(value) is not None:
            return None
        if self.auth == "bearer" and scheme == "Bearer" and value in self._tokens:
            return None
        status = self.denied_status if scheme else 401
        response = self._error(status, "UNAUTHORIZED" if status == 401 else "DENIED")
        if status == 401:
            for challenge in self._challenges(path):
                response.headers.add("WWW-Authenticate", challenge)
        return response

    def _challenges(self, path: str) -> list[str]:
        if self.challenges is not None:
            return self.challenges
        if self.auth == "basic":
            return ['Basic realm="fake registry"']
        parts = [f'realm="{self.realm or self.url + "/token"}"']
        if self.service is not None:
            parts.append(f'service="{self.service}"')
        if self.challenge_scope:
            repository = path.removeprefix("/v2/").split("/manifests/")[0].split("/blobs/")[0].split("/tags/")[0]
            parts.append(f'scope="repository:{repository}:pull"')
        return ["Bearer " + ",".join(parts)]

    async def _token(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST":
            form = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
            if not self.token_post:
                return web.Response(status=404)
            by_refresh = form.get("refresh_token") in self.refresh_tokens
            by_password = form.get("username") in self.users and (
                self.users[form["username"]] == form.get("password", "")
            )
            if not (by_refresh or by_password):
                return self._error(401, "UNAUTHORIZED")
        else:
            scheme, _, value = request.headers.get("Authorization", "").partition(" ")
            if scheme and (scheme != "Basic" or self._user(value) is None):
                return self._error(401, "UNAUTHORIZED")
            if not scheme and not self.anonymous:
                return self._error(401, "UNAUTHORIZED")
        self._token_count += 1
        token = f"token-{self._token_count}"
        self._tokens.add(token)
        return web.json_response({"token": token} | self.token_answer)

    def _user(self, basic: str) -> str | None:
        try:
            name, _, password = base64.b64decode(basic, validate=True).decode().partition(":")
        except ValueError:
            return None
        return name if self.users.get(name) == password else None

    def _error(self, status: int, code: str) -> web.Response:
        return web.json_response({"errors": [{"code": code, "message": "the fake says no"}]}, status=status)
