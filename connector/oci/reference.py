"""References to artifacts: the whole grammar, and Docker Hub's names. Pure.

Rules. (1) `[registry/]repository[:tag][@digest]`, as github.com/distribution/reference defines it. (2) The first part
is the registry when it holds `.` or `:`, is `localhost`, or is an IPv6 address in brackets; otherwise the registry is
Docker Hub, whose official images live under `library/`. (3) Host names are compared in lower case; a trailing dot,
user information and a scheme are refused. (4) With a digest, the tag is only a note to the reader.
"""

import ipaddress
import re

from msgspec import Struct

from connector.errors import ConfigError
from connector.oci.digest import Digest, parse_digest

DOCKER_HUB = "docker.io"
DOCKER_HUB_API = "registry-1.docker.io"
DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, DOCKER_HUB_API, "index.docker.io"})

_HOST = re.compile(r"(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])(?:\.(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9]))*")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BARE_HEX = re.compile(r"[0-9a-f]{64}")  # could be taken for an image id, so the reference grammar excludes it
_REPOSITORY = "lower-case letters and digits, joined by '.', '_', '__', '-', '/'"
_LONGEST_NAME = 255  # of registry and repository together; the grammar's own limit
_LONGEST_TEXT = 1024  # name, tag of 128 and digest of 135 characters, with room; what is longer is not parsed at all


class Reference(Struct, frozen=True):
    """What a reference names.

    `text` is as configured; it is the artifact in a record's key. `registry` is `host[:port]` in lower case, with
    `docker.io` for all of Docker Hub's names. `is_default_tag`: neither tag nor digest was given, `tag` is "latest".
    `mirror_of`: the registry whose content is asked for here, where this is one of its mirrors.
    """

    text: str
    registry: str
    repository: str
    tag: str | None
    digest: Digest | None
    is_default_tag: bool = False
    mirror_of: str = ""

    @property
    def api_host(self) -> str:
        """`host[:port]` to send requests to."""
        return DOCKER_HUB_API if self.registry == DOCKER_HUB else self.registry

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def qualified(self) -> str:
        """The reference in full, for messages: `docker.io/library/alpine:latest` where the text is `alpine`."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.text


def parse_reference(text: str) -> Reference:
    """The reference that the text is. Raises ConfigError BadValue that says which part is wrong."""
    if not 0 < len(text) <= _LONGEST_TEXT:
        raise _bad(text[:80], f"a reference has 1 to {_LONGEST_TEXT} characters")
    if "://" in text:
        raise _bad(text, "a reference has no scheme; write it without what stands before '//'")
    rest, at, digest_text = text.partition("@")
    digest = _digest(text, digest_text) if at else None
    registry, path = _split_registry(text, rest)
    path, colon, tag = path.partition(":")
    if colon and not TAG.fullmatch(tag):
        raise _bad(text, f"{tag[:140]!r} is not a tag: letters, digits, '_', '.', '-', at most 128, not first '.', '-'")
    repository = _repository(text, registry, path)
    if not colon and digest is None:
        return Reference(text, registry, repository, "latest", None, is_default_tag=True)
    return Reference(text, registry, repository, tag if colon else None, digest)


def parse_host(text: str) -> str:
    """`host[:port]` in lower case, with Docker Hub's names folded into `docker.io`. Raises ValueError."""
    host, port = split_host(text.lower())
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError(f"{port[:20]!r} is not a port")
    if host.startswith("["):
        try:
            if not host.endswith("]"):
                raise ValueError("no closing bracket")
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise ValueError(f"{host[:60]!r} is not an IPv6 address") from error
    elif not _HOST.fullmatch(host) or len(host) > 253:
        raise ValueError(f"{host[:80]!r} is not a host name")
    name = host if port is None else f"{host}:{port}"
    return DOCKER_HUB if name in DOCKER_HUB_NAMES else name


def parse_repository(text: str) -> str:
    """The text, if it is the path of a repository. Raises ValueError."""
    if not _PATH.fullmatch(text):
        raise ValueError(f"{text[:120]!r} is not a repository: {_REPOSITORY}")
    return text


def split_host(authority: str) -> tuple[str, str | None]:
    """Host (an IPv6 address keeps its brackets) and the text of the port, None where there is none."""
    if authority.startswith("["):
        host, _, rest = authority.partition("]")
        if rest and not rest.startswith(":"):
            return authority, None
        return f"{host}]" if "]" in authority else authority, rest[1:] if rest else None
    host, colon, port = authority.partition(":")
    return host, port if colon else None


def _split_registry(text: str, name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    looks_like_host = "." in first or ":" in first or first.startswith("[") or first.lower() == "localhost"
    if slash and (looks_like_host or first != first.lower()):
        try:
            return parse_host(first), rest
        except ValueError as error:
            raise _bad(text, str(error)) from error
    return DOCKER_HUB, name


def _repository(text: str, registry: str, path: str) -> str:
    try:
        parse_repository(path)
    except ValueError as error:
        raise _bad(text, str(error)) from error
    if registry == DOCKER_HUB and "/" not in path:
        if _BARE_HEX.fullmatch(path):
            raise _bad(text, "64 hexadecimal digits are an image id, not a repository")
        path = f"library/{path}"
    if len(registry) + 1 + len(path) > _LONGEST_NAME:
        raise _bad(text, f"registry and repository together have more than {_LONGEST_NAME} characters")
    return path


def _digest(text: str, digest: str) -> Digest:
    try:
        return parse_digest(digest)
    except ValueError as error:
        raise _bad(text, str(error)) from error


def _bad(text: str, cause: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing=f"reading the artifact {text[:200]!r}",
        cause=cause,
        remedy="write it as registry.example.com/org/name:tag or …@sha256:… (operator)",
    )
