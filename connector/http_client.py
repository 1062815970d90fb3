"""One HTTP exchange: TLS, proxy, time-outs, a least rate, size caps. The only module that imports httpx.

Rules. (1) It follows nothing, adds no credentials, keeps no cookies, reads no environment: what goes over the wire is
what the caller gave, plus Host and Content-Length. (2) Bodies are the raw bytes of the wire, never decoded. (3) Every
wait has a bound: connecting, silence, the whole head, and a least rate for the body. (4) What goes wrong is an
HttpFailure with a kind; the caller knows what was being done and makes it an error of the tree.

httpx's interface carries two transports: aiohttp's (the default; its parser is C) and httpx's own as a fall-back.
"""

import asyncio
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

TransportName = Literal["aiohttp", "httpx"]
FailureKind = Literal["connect", "tls", "timeout", "slow", "cut", "protocol", "too_large"]

_SLOW_WINDOW_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 10_000
_IDLE_SECONDS = 75.0  # longer than a usual tick of 30 s, so that a quiet tick finds its connection open
_CONNECTIONS = 100


class HttpFailure(Exception):
    """The exchange did not come to its end. `kind` says how, the text what was seen."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        self.kind = kind
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to reach one host. Files are PEM; `ca_file` is trusted instead of the usual authorities."""

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    connect_seconds: float = 10.0
    silence_seconds: float = 30.0
    head_seconds: float = 60.0  # from the first byte sent to the last byte of the response's head


class Response:
    """The head of a response, and its body still on the wire. Close it; a body read to its end frees the connection."""

    __slots__ = ("_headers", "_response", "_slow_window_seconds", "_when_closed", "status", "url")

    def __init__(self, response: httpx.Response, url: str, slow_window_seconds: float) -> None:
        self._response = response
        self._slow_window_seconds = slow_window_seconds
        # A dict of our own: httpx's headers guess their encoding anew at each look, a fifth of a small exchange.
        self._headers: dict[str, list[str]] = {}
        for name, value in response.headers.raw:
            self._headers.setdefault(name.decode("latin-1").lower(), []).append(_text(value))
        self._when_closed: Callable[[], None] | None = None
        self.status = response.status_code
        self.url = url

    def header(self, name: str) -> str:
        """The header's value, several joined by commas; empty where there is none."""
        return ", ".join(self._headers.get(name.lower(), ()))

    def header_values(self, name: str) -> list[str]:
        """The header's values, one a line that came."""
        return self._headers.get(name.lower(), [])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises HttpFailure: cut, timeout, slow, protocol.

        Only time spent waiting for the peer counts towards the least rate; a caller that is slow itself is not blamed.
        """
        waited, received, mark = 0.0, 0, time.monotonic()
        try:
            async for chunk in self._response.stream:  # type: ignore[union-attr] # both transports are asynchronous
                waited += time.monotonic() - mark
                received += len(chunk)
                if waited >= self._slow_window_seconds:
                    if received < waited * _SLOWEST_BYTES_PER_SECOND:
                        raise HttpFailure("slow", f"{received} bytes came in {waited:.0f} s")
                    waited, received = 0.0, 0
                if chunk:
                    yield chunk
                mark = time.monotonic()
        except HttpFailure:
            raise
        except _FOREIGN as error:
            raise _failure(error) from error

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises HttpFailure: too_large beyond the limit, and those of `chunks`."""
        if int(self.content_length or 0) > limit_bytes:
            raise HttpFailure("too_large", f"Content-Length says {self.content_length} bytes, {limit_bytes} are read")
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit_bytes:
                raise HttpFailure("too_large", f"more than {limit_bytes} bytes")
            parts.append(chunk)
        return b"".join(parts)

    @property
    def content_length(self) -> int | None:
        """What Content-Length says; None where it is absent or no count."""
        text = self.header("content-length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call this once, when the response is closed."""
        self._when_closed = callback

    async def aclose(self) -> None:
        """Let go of the connection; where the body was not read to its end, the connection is closed."""
        try:
            await self._response.stream.aclose()  # type: ignore[union-attr] # both transports are asynchronous
        except _FOREIGN:
            pass  # what matters of the body was read, or is being reported
        finally:
            callback, self._when_closed = self._when_closed, None
            if callback is not None:
                callback()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class HttpClient:
    """Connections to hosts that share their options. Make it in a running event loop, close it there."""

    def __init__(
        self,
        options: HttpOptions = HttpOptions(),
        transport: TransportName = "aiohttp",
        slow_window_seconds: float = _SLOW_WINDOW_SECONDS,
    ) -> None:
        self._options = options
        self._name = transport
        self._slow_window_seconds = slow_window_seconds
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._timeout = {
            "connect": options.connect_seconds,
            "read": options.silence_seconds,
            "write": options.silence_seconds,
            "pool": options.head_seconds,
        }

    @property
    def uses_proxy(self) -> bool:
        """Whether a proxy resolves the names, and not this machine."""
        return self._options.proxy is not None

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        address: str | None = None,
    ) -> Response:
        """The response's head; its body is read through it. Raises HttpFailure.

        `address`: connect to this IP address and nowhere else, while name and certificate stay those of the URL.
        """
        extensions: dict[str, object] = {"timeout": self._timeout}
        sent = dict(headers)
        try:
            parts = urlsplit(url)
            port, target = parts.port, url
            if address is not None and parts.hostname is not None:
                literal = f"[{address}]" if ":" in address else address
                target = parts._replace(netloc=literal if port is None else f"{literal}:{port}").geturl()
                sent["Host"] = parts.netloc
                if parts.scheme == "https":
                    extensions["sni_hostname"] = parts.hostname
            transport = self._transport(parts.scheme, pinned=address is not None)
            request = httpx.Request(method, target, headers=sent, content=body, extensions=extensions)
            async with asyncio.timeout(self._options.head_seconds):
                response = await transport.handle_async_request(request)
                if method == "HEAD":  # httpcore keeps only connections whose response was read to its end
                    async for _ in response.stream:  # type: ignore[union-attr] # both transports are asynchronous
                        pass
        except _FOREIGN as error:
            raise _failure(error) from error
        return Response(response, url, self._slow_window_seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        transports, self._transports = list(self._transports.values()), {}
        for transport in transports:
            await transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _transport(self, scheme: str, *, pinned: bool) -> httpx.AsyncBaseTransport:
        # httpcore's pool knows connections by address only, so one that was opened under another name could be
        # reused for a pinned request; those get a pool that keeps nothing. aiohttp's key holds the name too.
        key = f"{scheme} pinned" if pinned and self._name == "httpx" else scheme
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = self._open(scheme, keep=not key.endswith("pinned"))
        return transport

    def _open(self, scheme: str, *, keep: bool) -> httpx.AsyncBaseTransport:
        # Loading the authorities takes 20 ms and more; a context without any (it trusts nobody) serves plain HTTP.
        tls = self._tls_context() if scheme == "https" or self.uses_proxy else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        proxy = httpx.Proxy(self._options.proxy) if self._options.proxy else None
        if self._name == "httpx":
            limits = httpx.Limits(
                max_connections=_CONNECTIONS,
                max_keepalive_connections=None if keep else 0,
                keepalive_expiry=_IDLE_SECONDS,
            )
            return httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=proxy, trust_env=False)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=tls, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            trust_env=False,
            auto_decompress=False,
        )
        return AiohttpTransport(client=session, verify=tls, proxy=proxy, trust_env=False)

    def _tls_context(self) -> ssl.SSLContext:
        if self._options.ca_file is not None:
            context = ssl.create_default_context(cafile=self._options.ca_file)
        else:
            context = httpx.create_ssl_context(trust_env=False)
        if self._options.client_cert is not None:
            context.load_cert_chain(self._options.client_cert, self._options.client_key)
        return context


def gunzip(data: bytes, limit_bytes: int) -> bytes:
    """The content of one gzip stream, for servers that encode although asked not to. Raises ValueError."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        content = decoder.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise ValueError("not gzip") from error
    if len(content) > limit_bytes or not decoder.eof or decoder.unused_data:
        raise ValueError("more than one gzip stream, a cut one, or too much in it")
    return content


def _text(value: bytes) -> str:
    """A header's value: UTF-8 as servers send it nowadays (GHCR's `880µs`), else Latin-1, which is never wrong."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


# What may come out of the two transports and the TLS set-up below them. aiohttp's own errors that the httpx layer does
# not know (a malformed head, say) pass through it unchanged. ValueError: a URL or header that cannot be sent.
_FOREIGN = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    ValueError,
)


def _failure(error: Exception) -> HttpFailure:
    # aiohttp's errors come wrapped in httpx's, and then the cause is the one that knows.
    known: BaseException = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
    printable = "".join(character if character.isprintable() else " " for character in str(known)[:1000])
    text = " ".join(printable.split()).replace(" ssl:default", "")[:300] or type(known).__name__
    inner = known.__cause__ if isinstance(known.__cause__, ssl.SSLError) else known
    if (
        isinstance(inner, ssl.SSLError | aiohttp.ClientSSLError)
        or "CERTIFICATE_VERIFY_FAILED" in text
        or "[SSL" in text
    ):
        return HttpFailure("tls", text)
    if isinstance(known, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | aiohttp.ClientConnectorError):
        return HttpFailure("connect", text)
    if isinstance(known, aiohttp.ConnectionTimeoutError):
        return HttpFailure("connect", text)
    if isinstance(known, TimeoutError | httpx.TimeoutException):
        return HttpFailure("timeout", text if text != "TimeoutError" else "no answer in time")
    if isinstance(
        known, httpx.ReadError | httpx.RemoteProtocolError | aiohttp.ClientPayloadError | aiohttp.ClientOSError
    ):
        return HttpFailure("cut", text)
    if isinstance(known, aiohttp.ServerDisconnectedError | ConnectionError | httpx.WriteError):
        return HttpFailure("cut", text)
    if isinstance(known, OSError):
        return HttpFailure("connect", text)
    return HttpFailure("protocol", text)
