"""Who may be sent what: plain HTTP, redirects, token realms, addresses. Pure; names are resolved by the caller.

Rules. (1) Plain HTTP goes to exact loopback literals, or where the settings say so. (2) A redirect never goes from
https to http, and to a private address only if the registry itself is on one. (3) Credentials go to a realm on the
registry's own host, between loopback and loopback, to `trusted_realms`, within one registrable domain, or for a pair in
the table below; another public realm gets an anonymous request at most; a private one nothing. (4) A name is as private
as any address it resolves to, and the connection goes to the address that was checked.

Every `refusal_…` returns None for "allowed", else why not, as part of a sentence.
"""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?")  # a name, or an address as urlsplit has it
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")

# Registries whose realm is under another domain, and rightly so.
KNOWN_REALMS = frozenset(
    {
        ("nvcr.io", "authn.nvidia.com"),
        ("lscr.io", "ghcr.io"),
        ("registry.gitlab.com", "gitlab.com"),
        ("registry-1.docker.io", "auth.docker.io"),
    }
)

# Domains below which strangers rent names: sharing one of these says nothing. Two-letter country codes with a short
# second label (co.uk, com.au) are told by their shape.
# fmt: off
_SHARED_SUFFIXES = frozenset((
    "amazonaws.com", "appspot.com", "azure.com", "azurecr.cn", "azurecr.io", "azurewebsites.net", "backblazeb2.com",
    "cloudapp.net", "cloudfront.net", "cloudsmith.io", "digitaloceanspaces.com", "duckdns.org", "dyndns.org",
    "fly.dev", "github.io", "githubusercontent.com", "gitlab.io", "googleapis.com", "googleusercontent.com",
    "herokuapp.com", "jfrog.io", "linodeobjects.com", "netlify.app", "ngrok-free.app", "ngrok.app", "ngrok.io",
    "nip.io", "no-ip.org", "ondigitalocean.app", "onrender.com", "pages.dev", "pkg.dev", "r2.dev", "run.app",
    "scw.cloud", "sslip.io", "trycloudflare.com", "ts.net", "vercel.app", "wasabisys.com", "web.app", "windows.net",
    "workers.dev",
))
# fmt: on


class Origin(Struct, frozen=True):
    """Scheme, host in lower case without brackets, port: what a credential may be bound to."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host[:port]`, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """The origin of an http or https URL. Raises ValueError that says what is wrong with it."""
    if _SPACE_OR_CONTROL.search(url):
        raise ValueError("it holds a space or a control character")
    if not url.isascii():  # to be sent it would have to be rewritten, and then it is another URL than was signed
        raise ValueError("it holds a character outside of ASCII")
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise ValueError(f"its scheme is {parts.scheme[:20]!r}, not http or https")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ValueError("it names no host")
    if "@" in parts.netloc or "\\" in parts.netloc:
        raise ValueError("it holds user information")
    if parts.port == 0:
        raise ValueError("its port is 0")
    return Origin(parts.scheme, parts.hostname.lower(), parts.port or PORTS[parts.scheme])


def address_literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host text is, in the odd spellings too that C libraries take (`2130706433`, `0x7f.1`)."""
    host = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    parts = host.rstrip(".").split(".")
    if not 1 <= len(parts) <= 4 or not all(re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}|\d{1,16}", part) for part in parts):
        return None
    numbers = [int(part, 16) if part[:2] in ("0x", "0X") else int(part, 8 if _is_octal(part) else 10) for part in parts]
    value = numbers[-1]
    for index, number in enumerate(numbers[:-1]):
        value += number << (8 * (3 - index))
    return ipaddress.IPv4Address(value & 0xFFFFFFFF)


def is_local(host: str) -> bool:
    """Whether this text is an address that is not of the public internet, or a name that can only be one."""
    address = address_literal(host)
    if address is None:
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _nat64(address)
        if inner is not None:
            return is_local(str(inner))
    return not address.is_global or address.is_multicast


def is_loopback(host: str) -> bool:
    """Whether it is `localhost`, an address of 127.0.0.0/8 in its usual spelling, or ::1. No look-alikes."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def scheme_for(host: str, plain_http: bool | None) -> str:
    """`http` where the setting says so, or where there is none and the host is a loopback literal; else `https`."""
    if plain_http is None:
        return "http" if is_loopback(host) else "https"
    return "http" if plain_http else "https"


def resolve_location(current: str, location: str) -> str:
    """The absolute URL of a Location header, byte for byte where it is one, without its fragment.

    Raises ValueError where it is absent or no http(s) URL.
    """
    if not location:
        raise ValueError("the redirect has no Location")
    if any(ord(character) < 32 for character in location):  # urljoin drops some of them in silence
        raise ValueError("its Location holds a control character")
    # urljoin loses an empty parameter or query of an absolute URL, and the signature with it.
    url = location if _ABSOLUTE.match(location) else urljoin(current, location)
    url = url.partition("#")[0]
    origin_of(url)
    return url


def refusal_of_redirect(
    current: Origin, target: Origin, addresses: Sequence[str], *, registry_is_local: bool
) -> str | None:
    """Why a registry's redirect is not followed. `addresses` are all that the target's name resolves to.

    Also within one origin: between two requests its name may have come to lead inside.
    """
    if current.scheme == "https" and target.scheme == "http":
        return "it goes from https to http"
    if not registry_is_local and any(is_local(host) for host in (target.host, *addresses)):
        return f"{target.host} is a private address, and the registry is not on one"
    return None


def refusal_of_realm(
    registry: Origin,
    realm: Origin,
    addresses: Sequence[str],
    trusted: Sequence[str],
    *,
    with_credentials: bool,
    registry_is_local: bool = False,
) -> str | None:
    """Why this realm gets no request, or not one with credentials.

    On a private address it may be where the registry is too: on the same host (GitLab's registry has another port), or
    under the same domain.
    """
    if registry.scheme == "https" and realm.scheme == "http":
        return "it is plain HTTP, and the registry is not"
    if realm.authority == registry.authority or (realm.host, realm.port) == (registry.host, registry.port):
        return None
    if is_loopback(registry.host) and is_loopback(realm.host):
        return None
    if is_named(realm, trusted):
        return None
    own = realm.host == registry.host or (registry_is_local and _share_domain(registry.host, realm.host))
    if not own and any(is_local(host) for host in (realm.host, *addresses)):
        return "it is on a private address, and not the registry's own"
    if not with_credentials:
        return None
    if realm.scheme == "http":
        return "it is plain HTTP on another host"
    if (registry.host, realm.host) in KNOWN_REALMS or _share_domain(registry.host, realm.host):
        return None
    return "it is under another domain than the registry"


def is_named(origin: Origin, names: Sequence[str]) -> bool:
    """Whether one of the names, `host` or `host:port`, is this origin's."""
    own = origin.authority if origin.port != PORTS[origin.scheme] else f"{origin.authority}:{origin.port}"
    return any(name in names for name in (origin.host, origin.authority, own))


def _share_domain(one: str, other: str) -> bool:
    domain = _registrable(one)
    return domain is not None and domain == _registrable(other)


def _registrable(host: str) -> str | None:
    """The domain that one owner holds, or None where that is not certain (then only the same host is trusted)."""
    labels = host.rstrip(".").split(".")
    if address_literal(host) is not None or len(labels) < 2:
        return None
    two = ".".join(labels[-2:])
    if two in _SHARED_SUFFIXES or any(host.endswith(f".{suffix}") for suffix in _SHARED_SUFFIXES):
        return None
    if len(labels[-1]) == 2 and len(labels[-2]) <= 3:
        return ".".join(labels[-3:]) if len(labels) > 2 else None
    return two


def _nat64(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in ipaddress.ip_network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_octal(part: str) -> bool:
    return len(part) > 1 and part[0] == "0" and not set(part) & set("89")
