"""Who may call what, decided from a request's headers and peer. Pure.

Rules. (1) A browser that was lured here under a foreign name (DNS rebinding) reads nothing: the Host must be an IP
address, a name without public owner, or one that was allowed. (2) Commands are refused when a browser sends them for
another site. (3) Commands need the token where one is set; without one they are taken from this machine only, and
not through a proxy, whose clients nobody checked.
"""

import hmac
import ipaddress
import re
from collections.abc import Mapping

from msgspec import Struct

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
# Names under these are given by a cluster, a network or the machine itself; nobody can buy one and point it at us.
_PRIVATE_SUFFIXES = (".localhost", ".svc", ".cluster.local", ".internal")
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class Access(Struct, frozen=True):
    """The settings: further names this listener goes by, and the token that commands need (None: this machine only)."""

    allowed_hosts: frozenset[str] = frozenset()
    token: str | None = None

    def __repr__(self) -> str:
        return f"<Access by {sorted(self.allowed_hosts)}, {'with' if self.token is not None else 'without'} a token>"


class Refusal(Struct, frozen=True):
    """An answer instead of the one asked for."""

    status: int
    message: str


def refuse_host(host: str | None, access: Access) -> Refusal | None:
    """None where a request may be answered under this Host header."""
    match = _HOST.fullmatch(host or "")
    if match is None:
        return Refusal(400, "the Host header is missing or malformed")
    name = (match["six"] or match["name"]).lower().rstrip(".")
    if _is_address(name) or "." not in name or name.endswith(_PRIVATE_SUFFIXES):
        return None
    if name in {one.lower().rstrip(".") for one in access.allowed_hosts}:
        return None
    return Refusal(
        421, f"this listener does not go by the name {name[:100]}; add it to http.allowed_hosts of the worker file"
    )


def refuse_command(headers: Mapping[str, str], peer: str | None, access: Access) -> Refusal | None:
    """None where a request may change something. `headers` finds names in any case; `peer` is its address."""
    if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return Refusal(403, "commands are not taken from pages of other sites")
    if not _is_same_origin(headers.get("Origin"), headers.get("Host", "")):
        return Refusal(403, "commands are not taken from pages of other sites")
    if access.token is not None:
        return _refuse_token(headers.get("Authorization", ""), access.token)
    if any(name in headers for name in _PROXY_HEADERS) or not _is_loopback(peer):
        return Refusal(403, "without http.token_file in the worker file, commands are taken from this machine only")
    return None


def _refuse_token(authorization: str, token: str) -> Refusal | None:
    scheme, _, given = authorization.partition(" ")
    # Compared in constant time, so that an answer's delay does not spell the token out.
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    if scheme.lower() == "bearer" and same and token:
        return None
    return Refusal(401, "commands need 'Authorization: Bearer' with the token of http.token_file")


def _is_same_origin(origin: str | None, host: str) -> bool:
    return origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(peer: str | None) -> bool:
    try:
        address = ipaddress.ip_address((peer or "").partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
