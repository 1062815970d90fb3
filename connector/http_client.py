"""One HTTP exchange: TLS, proxy, time-outs, a least rate, size caps. The only module that imports httpx.

Rules. (1) It follows nothing, adds no credentials, keeps no cookies, reads no environment: what goes over the wire is
what the caller gave, plus Host and Content-Length. (2) Bodies are the raw bytes of the wire, never decoded. (3) Every
wait has a bound: connecting, silence, the whole head, and a least rate for the body. (4) What goes wrong is an
HttpFailure with a kind; the caller knows what was being done and makes it an error of the tree.

Two transports: aiohttp (its parser is C, and a small exchange takes it half of the CPU that the same takes under
httpx's interface), and httpx as a fall-back that is imported when it is first used.
"""

import asyncio
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
import certifi
from yarl import URL

if TYPE_CHECKING:
    import httpx

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


class _Body(Protocol):
    """A body on its way, raw."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a transport brings."""

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    body: _Body


class _Transport(Protocol):
    """One way to exchange. `send` raises HttpFailure, or what `_FOREIGN` names."""

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, name: str) -> _Answer: ...

    async def aclose(self) -> None: ...


class Response:
    """The head of a response, and its body still on the wire. Close it; a body read to its end frees the connection."""

    __slots__ = ("_body", "_headers", "_slow_window_seconds", "_when_closed", "status", "url")

    def __init__(self, answer: _Answer, url: str, slow_window_seconds: float) -> None:
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
        try:
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
        options: HttpOptions = HttpOptions(),
        transport: TransportName = "aiohttp",
        slow_window_seconds: float = _SLOW_WINDOW_SECONDS,
    ) -> None:
        self._options = options
        self._name = transport
        self._slow_window_seconds = slow_window_seconds
        self._transports: dict[str, _Transport] = {}

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
        sent = dict(headers)
        try:
            parts = urlsplit(url)
            port, target, name = parts.port, url, ""
            if address is not None and parts.hostname is not None:
                literal = f"[{address}]" if ":" in address else address
                target = parts._replace(netloc=literal if port is None else f"{literal}:{port}").geturl()
                sent["Host"] = parts.netloc
                if parts.scheme == "https":
                    name = parts.hostname
            transport = self._transport(parts.scheme, pinned=address is not None)
            async with asyncio.timeout(self._options.head_seconds):
                answer = await transport.send(method, target, sent, body, name)
        except _FOREIGN as error:
            raise _failure(error) from error
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

    def _transport(self, scheme: str, *, pinned: bool) -> _Transport:
        # httpcore's pool knows connections by address only, so one that was opened under another name could be
        # reused for a pinned request; those get a pool that keeps nothing. aiohttp's key holds the name too.
        key = f"{scheme} pinned" if pinned and self._name == "httpx" else scheme
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = self._open(scheme, keep=not key.endswith("pinned"))
        return transport

    def _open(self, scheme: str, *, keep: bool) -> _Transport:
        # Loading the authorities takes 20 ms and more; a context without any (it trusts nobody) serves plain HTTP.
        tls = self._tls_context() if scheme == "https" or self.uses_proxy else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._name == "httpx":
            return _Httpx(self._options, tls, keep=keep)
        return _Aiohttp(self._options, tls)

    def _tls_context(self) -> ssl.SSLContext:
        if self._options.ca_file is not None:
            context = ssl.create_default_context(cafile=self._options.ca_file)
        else:
            context = ssl.create_default_context(cafile=certifi.where())
        if self._options.client_cert is not None:
            context.load_cert_chain(self._options.client_cert, self._options.client_key)
        return context


class _Aiohttp:
    """One session. Redirects, cookies and encodings are left alone."""

    def __init__(self, options: HttpOptions, tls: ssl.SSLContext) -> None:
        proxy = URL(options.proxy) if options.proxy else None
        has_login = proxy is not None and proxy.user is not None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=tls, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=options.head_seconds,
                sock_connect=options.connect_seconds,
                sock_read=options.silence_seconds,
            ),
            trust_env=False,
            auto_decompress=False,
            proxy=proxy.with_user(None) if proxy is not None else None,
            proxy_auth=aiohttp.BasicAuth(proxy.user or "", proxy.password or "") if proxy and has_login else None,
        )

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, name: str) -> _Answer:
        response = await self._session.request(
            method, URL(url), headers=headers, data=body, allow_redirects=False, server_hostname=name or None
        )
        return _Answer(response.status, response.raw_headers, _AiohttpBody(response))

    async def aclose(self) -> None:
        await self._session.close()


class _AiohttpBody:
    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._response.content.iter_any())

    async def aclose(self) -> None:
        self._response.release()  # closes the connection where something is left on it


class _Httpx:
    """httpx's own transport; its errors leave it as HttpFailure."""

    def __init__(self, options: HttpOptions, tls: ssl.SSLContext, *, keep: bool) -> None:
        import httpx

        self._transport = httpx.AsyncHTTPTransport(
            verify=tls,
            limits=httpx.Limits(
                max_connections=_CONNECTIONS,
                max_keepalive_connections=None if keep else 0,
                keepalive_expiry=_IDLE_SECONDS,
            ),
            proxy=httpx.Proxy(options.proxy) if options.proxy else None,
            trust_env=False,
        )
        self._timeout = {
            "connect": options.connect_seconds,
            "read": options.silence_seconds,
            "write": options.silence_seconds,
            "pool": options.head_seconds,
        }

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, name: str) -> _Answer:
        import httpx

        extensions: dict[str, object] = {"timeout": self._timeout} | ({"sni_hostname": name} if name else {})
        with _httpx_failures():
            request = httpx.Request(method, url, headers=headers, content=body, extensions=extensions)
            response = await self._transport.handle_async_request(request)
            answer = _Answer(response.status_code, response.headers.raw, _HttpxBody(response))
            if method == "HEAD":  # httpcore keeps only connections whose response was read to its end
                async for _ in answer.body:
                    pass
        return answer

    async def aclose(self) -> None:
        await self._transport.aclose()


class _HttpxBody:
    def __init__(self, response: "httpx.Response") -> None:
        self._stream = response.stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_failures():
            async for chunk in self._stream:  # type: ignore[union-attr] # the transport is asynchronous
                yield chunk

    async def aclose(self) -> None:
        with suppress(HttpFailure), _httpx_failures():  # what matters of the body was read, or is being reported
            await self._stream.aclose()  # type: ignore[union-attr] # the transport is asynchronous


@contextmanager
def _httpx_failures() -> Iterator[None]:
    import httpx

    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise HttpFailure("tls" if _is_about_tls(error) else "connect", _text_of(error)) from error
    except httpx.TimeoutException as error:
        raise HttpFailure("timeout", _text_of(error)) from error
    except (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError) as error:
        raise HttpFailure("cut", _text_of(error)) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise HttpFailure("protocol", _text_of(error)) from error


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


# What may come out of aiohttp and the TLS set-up below it. ValueError: a URL or header that cannot be sent.
_FOREIGN = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


def _failure(error: Exception) -> HttpFailure:
    text = _text_of(error)
    if isinstance(error, aiohttp.ClientSSLError) or _is_about_tls(error):
        return HttpFailure("tls", text)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return HttpFailure("connect", text)
    if isinstance(error, TimeoutError):
        return HttpFailure("timeout", text if text != "TimeoutError" else "no answer in time")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientOSError):
        return HttpFailure("cut", text)
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return HttpFailure("cut", text)
    if isinstance(error, OSError):
        return HttpFailure("connect", text)
    return HttpFailure("protocol", text)


def _is_about_tls(error: Exception) -> bool:
    text = str(error)
    told = "CERTIFICATE_VERIFY_FAILED" in text or "[SSL" in text
    return told or isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError)


def _text_of(error: Exception) -> str:
    printable = "".join(character if character.isprintable() else " " for character in str(error)[:1000])
    return " ".join(printable.split()).replace(" ssl:default", "")[:300] or type(error).__name__
