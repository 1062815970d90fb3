"""Asking a running worker over its HTTP listener: its status, or a command."""

import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from connector.errors import ConfigError
from connector.telemetry import SECRETS

_TIMEOUT_SECONDS = 15  # longer than the listener's own bound for a command
_LARGEST_ANSWER_BYTES = 64_000_000
_TOKEN_VARIABLE = "OCI_SYNC_HTTP_TOKEN_PATH"  # noqa: S105  # the name of a variable
_EVERYWHERE = ("", "0.0.0.0", "[::]")  # noqa: S104  # compared with, not listened on

Json = dict[str, Any]  # a parsed document


class WorkerUnreachable(Exception):
    """Nobody answers at the URL, or not as a worker would."""


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:  # Any: the handler's own signature
        """A worker never sends us elsewhere; whoever does shall not get the token."""


# No proxy of the environment: a worker is on this machine or in this cluster.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)


def worker_url(address: str | None, url: str | None) -> str:
    """The URL to ask: the one given, else that of `http.address`. Raises ConfigError MissingField without either."""
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise _bad_url(url)
        return url.rstrip("/")
    if address is None:
        raise ConfigError(
            reason="MissingField",
            doing="looking for the worker's HTTP listener",
            cause="the worker file sets no http.address, and no --url was given",
            remedy="give --url, or set http.address and restart the worker (operator)",
        )
    host, _, port = address.rpartition(":")
    return f"http://{'127.0.0.1' if host in _EVERYWHERE else host}:{port}"


def ask(url: str, method: str = "GET") -> tuple[int, Json]:
    """Status code and document of an answer.

    Commands carry the token in the file that the variable OCI_SYNC_HTTP_TOKEN_PATH names, if it does. Raises
    WorkerUnreachable.
    """
    headers = {"Accept": "application/json"}
    token_path = os.environ.get(_TOKEN_VARIABLE)
    if method != "GET" and token_path:
        headers["Authorization"] = f"Bearer {_read_token(token_path)}"
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310  # worker_url checked the scheme
    try:
        code, body = _exchange(request)
        return code, _document(body)
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise WorkerUnreachable(f"no worker answers at {url}: {error}") from error


def _exchange(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            return answer.status, answer.read(_LARGEST_ANSWER_BYTES)
    except urllib.error.HTTPError as error:  # an answer too, by HTTP's codes
        with error:
            return error.code, error.read(_LARGEST_ANSWER_BYTES)


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            reason="FileUnreadable",
            doing=f"reading the token named by {_TOKEN_VARIABLE}",
            cause=str(error),
            remedy="name a readable file, or unset the variable (operator)",
        ) from error
    SECRETS.add(token)
    return token


def _document(body: bytes) -> Json:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the answer is not a worker's")
    return document


def _bad_url(url: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing="reading --url",
        cause=f"{url!r} is neither http:// nor https://",
        remedy="give the worker's address, for example http://127.0.0.1:8090",
    )
