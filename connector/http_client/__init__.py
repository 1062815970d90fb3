"""One HTTP exchange: TLS, proxy, time-outs, a least rate, size caps. The only room with HTTP clients.

`HttpClient` sends, `Response` is what comes back, `HttpOptions` say how to reach a host, `HttpFailure` says what went
wrong, `gunzip` undoes what a server should not have done.

Rules. (1) It follows nothing, adds no credentials, keeps no cookies, reads no environment: what goes over the wire is
what the caller gave, its URL byte for byte, plus Host, Content-Length and a proxy's login. (2) Bodies are the raw bytes
of the wire, never decoded. (3) Every wait has a bound: connecting, silence, the whole head, and a least rate for the
body. (4) What goes wrong is an HttpFailure with a kind; the caller knows what was being done and makes it an error of
the tree.

Two transports: aiohttp (its parser is C, and without httpx's interface above it a small exchange takes half of the
CPU), and httpx as a fall-back that is imported when it is first used.
"""

from connector.http_client.client import HttpClient, Response, TransportName, gunzip
from connector.http_client.transport import FailureKind, HttpFailure, HttpOptions

__all__ = ["FailureKind", "HttpClient", "HttpFailure", "HttpOptions", "Response", "TransportName", "gunzip"]
