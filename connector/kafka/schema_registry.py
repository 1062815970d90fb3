"""Client of a schema registry that speaks Confluent's REST API (Confluent, Karapace, Apicurio's `ccompat`).

Rules. (1) An id, once known, is kept: schemas never change under an id, so a running worker asks nothing. (2) With
`auto_register: false` schemas are looked up and never written. (3) No answer, or one that passes (5xx, 429), is
SchemaRegistryUnreachable and transient; a refusal is SchemaRejected and stays. (4) Credentials are read from their file
for each request, so a changed file needs no restart; they reach no message.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from msgspec import Struct

from connector.errors import CredentialsError, OutputError
from connector.http_client import HttpClient, HttpFailure, HttpOptions
from connector.telemetry import SECRETS

_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_MOST_BYTES: Final = 4 * 1024 * 1024
_UNKNOWN: Final = 404
_LONGEST_WAIT_SECONDS: Final = 3600.0


class RegistrySettings(Struct, frozen=True):
    """How the schema registry is reached. `url` holds no credentials."""

    url: str
    credentials_path: Path | None = None
    auto_register: bool = True
    subject_name: Literal["topic", "record"] = "topic"
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None


class RegisteredSchema(Struct, frozen=True):
    """A schema as the registry has it."""

    subject: str
    version: int
    id: int
    schema: str


class SchemaRegistry:
    """Schemas by subject. Opens a connection for each question: there are two or three in the life of a worker."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._ids: dict[tuple[str, str], int] = {}
        self.subject_name: Literal["topic", "record"] = settings.subject_name

    def __repr__(self) -> str:
        return f"<SchemaRegistry {self._url} {len(self._ids)} ids>"

    async def schema_id(self, subject: str, schema: str) -> int:
        """The id of the schema, registered if that is missing and allowed.

        Raises OutputError SchemaRegistryUnreachable, SchemaRejected, NotAuthorized; CredentialsError.
        """
        known = self._ids.get((subject, schema))
        if known is not None:
            return known
        if self._settings.auto_register:
            found: int | None = await self.register(subject, schema)
        else:
            found = await self.look_up(subject, schema)
        if found is None:
            raise OutputError(
                reason="SchemaRejected",
                doing=f"looking up our schema under subject {subject} of {self._url}",
                cause="it is not registered, and schema_registry.auto_register is false",
                remedy="oci-sync schemas register FLOW, by somebody who may (operator)",
            )
        self._ids[subject, schema] = found
        return found

    async def register(self, subject: str, schema: str) -> int:
        """The id after the schema was registered; the same again for one that is there already."""
        doing = f"registering a schema under subject {subject} of {self._url}"
        answer = await self._ask("POST", f"/subjects/{_quoted(subject)}/versions", doing, {"schema": schema})
        return self._id(answer, doing)

    async def look_up(self, subject: str, schema: str) -> int | None:
        """The id of exactly this schema under the subject, None where it has not got it."""
        doing = f"looking up a schema under subject {subject} of {self._url}"
        answer = await self._ask("POST", f"/subjects/{_quoted(subject)}", doing, {"schema": schema}, missing=True)
        return None if answer is None else self._id(answer, doing)

    async def latest(self, subject: str) -> RegisteredSchema | None:
        """The newest version of a subject, None where there is no such subject."""
        doing = f"reading subject {subject} of {self._url}"
        answer = await self._ask("GET", f"/subjects/{_quoted(subject)}/versions/latest", doing, missing=True)
        if answer is None:
            return None
        version, schema = (answer.get("version"), answer.get("schema")) if isinstance(answer, dict) else (None, None)
        if not isinstance(version, int) or not isinstance(schema, str):
            raise self._no_registry(doing, "the answer has no version and schema")
        return RegisteredSchema(subject, version, self._id(answer, doing), schema)

    async def schema(self, schema_id: int) -> str | None:
        """The schema of an id, None where the registry does not know it."""
        doing = f"reading schema {schema_id} of {self._url}"
        answer = await self._ask("GET", f"/schemas/ids/{schema_id}", doing, missing=True)
        if answer is None:
            return None
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise self._no_registry(doing, "the answer has no schema")
        return str(answer["schema"])

    async def is_compatible(self, subject: str, schema: str) -> bool:
        """Whether the subject's rule would take the schema; true where there is no such subject yet."""
        doing = f"checking a schema against subject {subject} of {self._url}"
        path = f"/compatibility/subjects/{_quoted(subject)}/versions/latest"
        answer = await self._ask("POST", path, doing, {"schema": schema}, missing=True)
        if answer is None:
            return True
        if not isinstance(answer, dict) or not isinstance(answer.get("is_compatible"), bool):
            raise self._no_registry(doing, "the answer does not say is_compatible")
        return bool(answer["is_compatible"])

    async def compatibility(self, subject: str) -> str:
        """The subject's compatibility level, or the registry's where it has none of its own."""
        doing = f"reading the compatibility level of subject {subject} of {self._url}"
        answer = await self._ask("GET", f"/config/{_quoted(subject)}?defaultToGlobal=true", doing, missing=True)
        if answer is None:
            answer = await self._ask("GET", "/config", doing)
        level = answer.get("compatibilityLevel") if isinstance(answer, dict) else None
        if not isinstance(level, str):
            raise self._no_registry(doing, "the answer has no compatibilityLevel")
        return level

    async def set_compatibility(self, subject: str, level: str) -> None:
        """Give the subject a level of its own, such as BACKWARD_TRANSITIVE."""
        doing = f"setting the compatibility level of subject {subject} of {self._url}"
        await self._ask("PUT", f"/config/{_quoted(subject)}", doing, {"compatibility": level})

    async def _ask(
        self, method: str, path: str, doing: str, body: Mapping[str, str] | None = None, *, missing: bool = False
    ) -> Any:
        """The JSON of the answer; None for a 404 where `missing` says that there may be nothing."""
        path_of_credentials = self._settings.credentials_path
        authorization = "" if path_of_credentials is None else read_authorization(path_of_credentials)
        headers = {"Accept": f"{_MEDIA_TYPE}, application/json"}
        if authorization:
            headers["Authorization"] = authorization
        content = None
        if body is not None:
            headers["Content-Type"] = _MEDIA_TYPE
            content = json.dumps(body).encode()
        try:
            async with (
                HttpClient(self._options()) as client,
                await client.send(method, self._url + path, headers, content) as response,
            ):
                status, wait = response.status, response.header("retry-after")
                text = await response.body(_MOST_BYTES)
        except HttpFailure as failure:
            raise self._unreachable(doing, str(failure), transient=failure.kind != "tls") from failure
        if status == _UNKNOWN and missing:
            return None
        if status != 200:
            raise self._refused(doing, status, _message(text, authorization), wait)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._no_registry(doing, "the answer is not JSON") from error

    def _options(self) -> HttpOptions:
        its = self._settings
        return HttpOptions(
            ca_file=its.ca_file,
            client_cert=its.client_cert,
            client_key=its.client_key,
            proxy=its.proxy,
            head_seconds=30.0,
        )

    def _id(self, answer: object, doing: str) -> int:
        found = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**31:
            raise self._no_registry(doing, "the answer has no id of 31 bits")
        return found

    def _refused(self, doing: str, status: int, said: str, wait: str) -> OutputError:
        cause = f"HTTP {status}{': ' if said else ''}{said}"
        if status in (408, 429) or status >= 500:
            return self._unreachable(doing, cause, retry_after=_seconds(wait))
        if status in (401, 403):
            sent = "with" if self._settings.credentials_path else "without"
            remedy = "check schema_registry.credentials_path and what that user may do (operator)"
            cause = f"{cause}; asked {sent} credentials"
            return OutputError(reason="NotAuthorized", doing=doing, cause=cause, remedy=remedy)
        remedy = "oci-sync schemas check FLOW shows what the registry holds and wants (operator)"
        if status == _UNKNOWN or 300 <= status < 400:
            remedy = "check schema_registry.url; Apicurio's ends in /apis/ccompat/v7 (operator)"
        return OutputError(reason="SchemaRejected", doing=doing, cause=cause, remedy=remedy)

    def _unreachable(
        self, doing: str, cause: str, *, transient: bool = True, retry_after: float | None = None
    ) -> OutputError:
        return OutputError(
            reason="SchemaRegistryUnreachable",
            doing=doing,
            cause=cause,
            remedy="check schema_registry.url and that the registry runs; the next tick tries again (operator)",
            transient=transient,
            retry_after=retry_after,
        )

    def _no_registry(self, doing: str, cause: str) -> OutputError:
        remedy = "check schema_registry.url: what answers there is no schema registry (operator)"
        return OutputError(reason="SchemaRejected", doing=doing, cause=cause, remedy=remedy)


def read_authorization(path: Path) -> str:
    """The header of a credentials file: JSON with `username` and `password`, or with `token` (a bearer token).

    Raises CredentialsError CredentialsUnreadable, without a word of the content.
    """
    try:
        document = json.loads(path.read_bytes())
        token, user, password = (document.get(name) for name in ("token", "username", "password"))
        if isinstance(token, str) and token and user is None and password is None and token.isprintable():
            SECRETS.add(token)
            return f"Bearer {token}"
        if isinstance(user, str) and isinstance(password, str) and token is None and ":" not in user:
            basic = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
            SECRETS.add(password, basic)
            return f"Basic {basic}"
        cause = "it is not an object with 'username' and 'password', or with 'token'"
    except OSError as error:
        cause = error.strerror or type(error).__name__
    except (ValueError, AttributeError, RecursionError):
        cause = "it is not a JSON object"
    raise CredentialsError(
        reason="CredentialsUnreadable",
        doing=f"reading the schema registry's credentials {path}",
        cause=cause,
        remedy="mend the file, or let schema_registry.credentials_path name another (operator)",
    ) from None


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _message(text: bytes, authorization: str) -> str:
    """What the registry says, on one line; empty where that is no message of its API, or where it echoes a secret."""
    try:
        document = json.loads(text)
        said = document.get("message")
    except (ValueError, RecursionError, AttributeError):
        return ""
    if any(secret in str(said) for secret in _secrets(authorization)):
        return ""
    printable = "".join(character if character.isprintable() else " " for character in str(said or ""))
    return " ".join(printable.split())[:300]


def _secrets(authorization: str) -> list[str]:
    scheme, _, sent = authorization.partition(" ")
    password = base64.b64decode(sent).decode().partition(":")[2] if scheme == "Basic" else ""
    return [secret for secret in (sent, password) if secret]


def _seconds(text: str) -> float | None:
    return min(float(text), _LONGEST_WAIT_SECONDS) if text.isascii() and text.isdigit() and len(text) < 10 else None
