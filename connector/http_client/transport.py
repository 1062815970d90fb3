"""What a transport is: it sends one request and brings the head of the answer, with the body still on its way."""

import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

FailureKind = Literal["connect", "tls", "timeout", "slow", "cut", "protocol", "too_large"]

IDLE_SECONDS = 75.0  # longer than a usual tick of 30 s, so that a quiet tick finds its connection open
CONNECTIONS = 100


class HttpFailure(Exception):
    """The exchange did not come to its end. `kind` says how, the text what was seen."""

    def __init__(self, kind: FailureKind, text: str) -> None:
        self.kind = kind
        super().__init__(text)


class HttpOptions(Struct, frozen=True):
    """How to reach one host. Files are PEM; `ca_file` is trusted instead of the usual authorities."""

    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    connect_seconds: float = 10.0
    silence_seconds: float = 30.0
    head_seconds: float = 60.0  # from the first byte sent to the last byte of the response's head


class Body(Protocol):
    """A body on its way, raw."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class Answer(Struct, frozen=True):
    """What a transport brings."""

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    body: Body


class Transport(Protocol):
    """One way to exchange. `send` raises HttpFailure; `name` is what TLS asks for where the URL holds an address."""

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, name: str) -> Answer: ...

    async def aclose(self) -> None: ...


def is_about_tls(error: Exception) -> bool:
    text = str(error)
    told = "CERTIFICATE_VERIFY_FAILED" in text or "[SSL" in text
    return told or isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError)


def text_of(error: Exception) -> str:
    return plain(str(error)).replace(" ssl:default", "")[:300] or type(error).__name__


def plain(text: str) -> str:
    """The first 1,000 characters on one line, without what a terminal would take for orders."""
    printable = "".join(character if character.isprintable() else " " for character in text[:1000])
    return " ".join(printable.split())
