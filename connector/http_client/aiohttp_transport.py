"""aiohttp as a transport."""

import os
import ssl
from collections.abc import AsyncIterator
from urllib.parse import unquote, urlsplit

from yarl import URL

from connector.http_client.transport import (
    CONNECTIONS,
    IDLE_SECONDS,
    Answer,
    HttpFailure,
    HttpOptions,
    is_about_tls,
    plain,
    text_of,
)

# At its import aiohttp reads every authority of this machine, 40 ms for a context that is never used: each session is
# given its own. OpenSSL reads them from where this variable says.
_named = os.environ.get("SSL_CERT_FILE")
os.environ["SSL_CERT_FILE"] = os.devnull
try:
    import aiohttp
finally:
    if _named is None:
        del os.environ["SSL_CERT_FILE"]
    else:
        os.environ["SSL_CERT_FILE"] = _named

# What may come out of aiohttp and of TLS below it. ValueError: a URL or header that cannot be sent.
_FOREIGN = (aiohttp.ClientError, OSError, ValueError)


class AiohttpTransport:
    """One session. Redirects, cookies and encodings are left alone."""

    def __init__(self, options: HttpOptions, tls: ssl.SSLContext) -> None:
        proxy, self._proxy_login = _proxy(options.proxy)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls, keepalive_timeout=IDLE_SECONDS),
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
            proxy=proxy,
        )

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, name: str) -> Answer:
        tunnel: dict[str, str] = {}
        if self._proxy_login:  # a plain request is the proxy's own; of a tunnel only its CONNECT is
            login = {"Proxy-Authorization": self._proxy_login}
            headers, tunnel = (headers, login) if url.startswith("https:") else (headers | login, {})
        try:
            response = await self._session.request(
                method,
                URL(url, encoded=True),  # aiohttp would write it anew otherwise, and a signed URL is then another one
                headers=headers,
                data=body,
                allow_redirects=False,
                server_hostname=name or None,
                proxy_headers=tunnel or None,
            )
        except _FOREIGN as error:
            raise _failure(error) from error
        return Answer(response.status, response.raw_headers, _Body(response))

    async def aclose(self) -> None:
        await self._session.close()


class _Body:
    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except _FOREIGN as error:
            raise _failure(error) from error

    async def aclose(self) -> None:
        self._response.release()  # closes the connection where something is left on it


def _proxy(url: str | None) -> tuple[str | None, str]:
    """The proxy's URL without its login, and the login as a header; empty where there is none."""
    parts = urlsplit(url or "")
    if parts.username is None:
        return url, ""
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, aiohttp.encode_basic_auth(unquote(parts.username), unquote(parts.password or ""))


def _failure(error: Exception) -> HttpFailure:
    text = text_of(error)
    if isinstance(error, aiohttp.ClientResponseError):  # it would tell the whole URL, which may hold a signature
        text = plain(f"{error.status} {error.message}")[:300]
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return HttpFailure("connect", f"the proxy answered {text}")
        return HttpFailure("protocol", text)
    if isinstance(error, aiohttp.ClientSSLError) or is_about_tls(error):
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
