"""httpx's own transport."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx

from connector.http_client.transport import (
    CONNECTIONS,
    IDLE_SECONDS,
    Answer,
    HttpFailure,
    HttpOptions,
    is_about_tls,
    text_of,
)


class HttpxTransport:
    """httpx's own transport; its errors leave it as HttpFailure."""

    def __init__(self, options: HttpOptions, tls: ssl.SSLContext, *, keep: bool) -> None:
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls,
            limits=httpx.Limits(
                max_connections=CONNECTIONS,
                max_keepalive_connections=None if keep else 0,
                keepalive_expiry=IDLE_SECONDS,
            ),
            proxy=httpx.Proxy(options.proxy) if options.proxy else None,
            trust_env=False,
        )
        self._has_proxy = options.proxy is not None
        self._timeout = {
            "connect": options.connect_seconds,
            "read": options.silence_seconds,
            "write": options.silence_seconds,
            "pool": options.head_seconds,
        }

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, name: str) -> Answer:
        extensions: dict[str, object] = {"timeout": self._timeout} | ({"sni_hostname": name} if name else {})
        with _failures():
            request = httpx.Request(method, url, headers=headers, content=body, extensions=extensions)
            self._keep_target(request, url)
            response = await self._transport.handle_async_request(request)
            answer = Answer(response.status_code, response.headers.raw, _Body(response))
            if method == "HEAD":  # httpcore keeps only connections whose response was read to its end
                async for _ in answer.body:
                    pass
        return answer

    def _keep_target(self, request: httpx.Request, url: str) -> None:
        """Send the path and query of the URL as they are; httpx would write some of them anew. Raises HttpFailure."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not self._has_proxy:
            request.extensions["target"] = target.encode("ascii")
        elif request.url.raw_path != target.encode("ascii"):  # with a proxy that extension would change the CONNECT too
            raise HttpFailure("protocol", "httpx would send another URL to the proxy; use the aiohttp transport")

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Body:
    def __init__(self, response: httpx.Response) -> None:
        self._stream = response.stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _failures():
            async for chunk in self._stream:  # type: ignore[union-attr] # the transport is asynchronous
                yield chunk

    async def aclose(self) -> None:
        with suppress(HttpFailure), _failures():  # what matters of the body was read, or is being reported
            await self._stream.aclose()  # type: ignore[union-attr] # the transport is asynchronous


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise HttpFailure("tls" if is_about_tls(error) else "connect", text_of(error)) from error
    except httpx.TimeoutException as error:
        raise HttpFailure("timeout", text_of(error)) from error
    except (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError) as error:
        raise HttpFailure("cut", text_of(error)) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise HttpFailure("protocol", text_of(error)) from error
