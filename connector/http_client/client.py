"""The client of one set of options, and its responses: addresses that were checked, bounds in time and size."""

import asyncio
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

import certifi

from connector.http_client.aiohttp_transport import AiohttpTransport
from connector.http_client.transport import (
    Answer,
    FailureKind,
    HttpFailure,
    HttpOptions,
    Transport,
    is_about_tls,
    text_of,
)

TransportName = Literal["aiohttp", "httpx"]

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_DEFAULT_OPTIONS = HttpOptions()
_SLOW_WINDOW_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 10_000


class Response:
    """The head of a response, and its body still on the wire. Close it; a body read to its end frees the connection."""

    __slots__ = ("_body", "_headers", "_slow_window_seconds", "_when_closed", "status", "url")

    def __init__(self, answer: Answer, url: str, slow_window_seconds: float) -> None:
        self._body = answer.body
        self._slow_window_seconds = slow_window_seconds
        self._headers: dict[str, list[str]] = {}
        for name, value in answer.headers:
            self._headers.setdefault(name.decode("latin-1").lower(), []).append(_text(value))
        self._when_closed: Callable[[], None] | None = None
        self.status = answer.status
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
        async for chunk in self._body:
            waited += time.monotonic() - mark
            received += len(chunk)
            if waited >= self._slow_window_seconds:
                if received < waited * _SLOWEST_BYTES_PER_SECOND:
                    raise HttpFailure("slow", f"{received} bytes came in {waited:.0f} s")
                waited, received = 0.0, 0
            if chunk:
                yield chunk
            mark = time.monotonic()

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
            await self._body.aclose()
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
        options: HttpOptions = _DEFAULT_OPTIONS,
        transport: TransportName = "aiohttp",
        slow_window_seconds: float = _SLOW_WINDOW_SECONDS,
    ) -> None:
        self._options = options
        self._name = transport
        self._slow_window_seconds = slow_window_seconds
        self._transports: dict[str, Transport] = {}

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

        The URL goes over the wire byte for byte, so it must be visible ASCII.
        `address`: connect to this IP address and nowhere else, while name and certificate stay those of the URL.
        """
        sent = dict(headers)
        try:
            if not _VISIBLE.fullmatch(url):
                raise ValueError("the URL holds a character that cannot be sent as it is")
            parts = urlsplit(url)
            port, where, name = parts.port, parts.netloc, ""
            if address is not None and parts.hostname is not None:
                literal = f"[{address}]" if ":" in address else address
                where = literal if port is None else f"{literal}:{port}"
                sent["Host"] = parts.netloc
                if parts.scheme == "https":
                    name = parts.hostname
            target = f"{parts.scheme}://{where}{url.partition('//')[2][len(parts.netloc) :]}"
            transport = self._transport(parts.scheme, pinned=address is not None)
            async with asyncio.timeout(self._options.head_seconds):
                answer = await transport.send(method, target, sent, body, name)
        except TimeoutError as error:
            raise HttpFailure("timeout", "no answer in time") from error
        except (OSError, ValueError) as error:  # a file of TLS that cannot be read, a URL that is none
            kind: FailureKind = (
                "tls" if is_about_tls(error) else "connect" if isinstance(error, OSError) else "protocol"
            )
            raise HttpFailure(kind, text_of(error)) from error
        return Response(answer, url, self._slow_window_seconds)

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

    def _transport(self, scheme: str, *, pinned: bool) -> Transport:
        # httpcore's pool knows connections by address only, so one that was opened under another name could be
        # reused for a pinned request; those get a pool that keeps nothing. aiohttp's key holds the name too.
        key = f"{scheme} pinned" if pinned and self._name == "httpx" else scheme
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = self._open(scheme, keep=not key.endswith("pinned"))
        return transport

    def _open(self, scheme: str, *, keep: bool) -> Transport:
        # Loading the authorities takes 20 ms and more; a context without any (it trusts nobody) serves plain HTTP.
        tls = self._tls_context() if scheme == "https" or self.uses_proxy else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._name == "httpx":
            # The fall-back: nobody else waits 60 ms for its import.
            from connector.http_client.httpx_transport import HttpxTransport

            return HttpxTransport(self._options, tls, keep=keep)
        return AiohttpTransport(self._options, tls)

    def _tls_context(self) -> ssl.SSLContext:
        if self._options.ca_file is not None:
            context = ssl.create_default_context(cafile=self._options.ca_file)
        else:
            context = ssl.create_default_context(cafile=certifi.where())
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
