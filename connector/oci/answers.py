"""What a registry's answer that is no success, or none at all, becomes in our tree of errors. Pure.

Every error names the stage and the reference (in `doing`), the host that answered, its HTTP status, the code and
message of the OCI error document where there is one, and who can do something about it.
"""

import re
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from connector.errors import RegistryError
from connector.oci.retry import parse_retry_after, verdict_of
from connector.oci.strict_json import parse_json

_MAX_MESSAGE = 200


class Answer(Protocol):
    """What is read of a response."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def url(self) -> str:
        """The URL that answered, after redirects."""
        ...

    def header(self, name: str) -> str:
        """A header's value, empty where there is none."""
        ...


def describe(answer: Answer, body: bytes, doing: str, now: datetime) -> RegistryError:
    """The error that a response with an unwanted status is."""
    verdict = verdict_of(answer.status)
    host = urlsplit(answer.url).netloc
    said = _said(body)
    if is_html(answer.header("content-type")) and answer.status not in (401, 403, 429) and answer.status < 500:
        said = "; it is a web page, not a registry's answer"
    wait = parse_retry_after(answer.header("retry-after"), now) if verdict.transient else None
    return RegistryError(
        reason=verdict.reason,
        doing=doing,
        cause=f"{host} answered {answer.status}{said}",
        remedy=verdict.remedy,
        transient=verdict.transient,
        retry_after=wait,
    )


def is_html(content_type: str) -> bool:
    """Whether it is a page for people: a login form, a captive portal."""
    return content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def not_a_registry(answer: Answer, cause: str, doing: str) -> RegistryError:
    """A success that no registry would send."""
    return RegistryError(
        reason="NotARegistry",
        doing=doing,
        cause=f"{urlsplit(answer.url).netloc} answered {answer.status} {cause}",
        remedy="check the address, and for a proxy or a login page in between (operator)",
    )


def failure_of(failure: Exception, doing: str, host: str) -> RegistryError:
    """The error that an HttpFailure is."""
    kind = getattr(failure, "kind", "protocol")
    reason, cause, remedy = _FAILURES[kind]
    return RegistryError(
        reason=reason,
        doing=doing,
        cause=f"{host} {cause}: {failure}",
        remedy=remedy,
        transient=False if kind == "tls" else None,
    )


# By the kinds of HttpFailure.
_FAILURES = {
    "connect": ("Unreachable", "cannot be reached", "check the host name, the network and the proxy (operator)"),
    "tls": ("Unreachable", "has no certificate that is trusted, or speaks no TLS", "set ca_file for it (operator)"),
    "timeout": ("Unreachable", "did not answer in time", "it is tried again; if it stays, ask who runs the registry"),
    "slow": ("TooSlow", "sends too slowly", "it is tried again; if it stays, ask who runs the registry or the network"),
    "cut": ("Unreachable", "broke off", "it is tried again; if it stays, look for a proxy that cuts (operator)"),
    "protocol": ("NotARegistry", "does not speak HTTP as it should", "check the address (operator)"),
    "too_large": ("NotARegistry", "sent too much", "check the address; if it is right, ask who runs the registry"),
}


def _said(body: bytes) -> str:
    """Code and message of an OCI error document, else the beginning of a text; cleaned and cut."""
    try:
        document = parse_json(body)
        error = document["errors"][0]
        code, message = error.get("code", ""), error.get("message", "")
    except (ValueError, LookupError, TypeError, AttributeError):
        text = clean(body[:1000].decode("utf-8", "replace"))
        return f": {text!r}" if text and not text.startswith(("<", "{")) else ""
    parts = [clean(part) for part in (code, message) if isinstance(part, str) and part]
    return f" {': '.join(parts)}" if parts else ""


def clean(text: str) -> str:
    """The text on one line, without control characters and what looks like a secret, at most 200 characters."""
    text = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())[:_MAX_MESSAGE]
    return re.sub(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}|\beyJ[\w.-]{20,}", "***", text)


def with_login(error: RegistryError, login: str) -> RegistryError:
    """The same refusal, with what was sent: at 3 a.m. that is the first question."""
    return RegistryError(
        reason=error.reason,
        doing=error.doing,
        cause=f"{error.cause}; {login}",
        remedy=error.remedy,
        transient=error.transient,
        retry_after=error.retry_after,
    )
