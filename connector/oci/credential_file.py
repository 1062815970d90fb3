"""A credentials file as values, and which of its entries are for a reference. Pure.

Two formats are told apart by their fields. (1) A docker config: `auths`, `credHelpers`, `credsStore`, as
`docker login`, `oras login` and a Kubernetes pull secret write it. (2) A plain object for the one registry of the task:
`{"username": …, "password": …}`, `{"token": …}` (also `registry_token`; a bearer token used as it is), or
`{"identity_token": …}` (an OAuth2 refresh token).

Which entries match: those of the host as it is written, the longest path that ends at a segment border first; then
those whose host has a `*`, which stands for any part of one label, as in Kubernetes; then the host's helper, then the
store. Docker Hub's names are one host. An entry that cannot be used says so when it is needed, by its name.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct, field

from connector.oci.reference import DOCKER_HUB, Reference, parse_host, split_host
from connector.oci.secret import Credential, Secret
from connector.oci.strict_json import parse_json

MAX_FILE_BYTES = 1 << 20
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}(\.exe)?")  # the ending is Docker Desktop's below Windows
_PLAIN_FIELDS = {"username", "password", "token", "registry_token", "identity_token"}
_DOCKER_FIELDS = {"auths", "credHelpers", "credsStore", "HttpHeaders", "currentContext"}


class Entry(Struct, frozen=True):
    """One entry of `auths`: its key's host and path, and its credential or what is wrong with it."""

    host: str
    path: str
    credential: Credential | None
    problem: str = ""


class Helper(Struct, frozen=True):
    """A program `docker-credential-<name>` and the key to ask it for."""

    name: str
    key: str


class CredentialFile(Struct, frozen=True):
    """What the file says. `plain` is set for the second format, the rest for the first."""

    plain: Credential | None = None
    entries: tuple[Entry, ...] = ()
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    def matches(self, reference: Reference) -> tuple[Entry | Helper, ...]:
        """What may authenticate this reference, best first."""
        if self.plain is not None:  # for the registry of the task, so for none of its mirrors
            return () if reference.mirror_of else (Entry(reference.registry, "", self.plain),)
        entries = [entry for entry in self.entries if _is_host(entry.host, reference.registry)]
        fitting = [entry for entry in entries if _is_prefix(entry.path, reference.repository)]
        fitting.sort(key=lambda entry: ("*" in entry.host, -len(entry.path), -len(entry.host)))
        key = _HUB_KEY if reference.registry == DOCKER_HUB else reference.registry
        names = [self.helpers.get(reference.registry, ""), self.store]
        return (*fitting, *(_helper(name, key) for name in dict.fromkeys(names) if name))


def parse_credentials(data: bytes) -> CredentialFile:
    """The file's content as values. Raises ValueError that names the field and never its value."""
    document = parse_json(data)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    if set(document) & _DOCKER_FIELDS or not document:
        return _docker(document)
    if set(document) & _PLAIN_FIELDS:
        return CredentialFile(plain=_plain(document))
    raise ValueError(
        "it has neither `auths` (a docker config) nor `username` and `password`, `token`, `identity_token`"
    )


def _plain(document: dict[str, Any]) -> Credential:
    unknown = sorted(set(document) - _PLAIN_FIELDS)
    if unknown:
        raise ValueError(f"the field {unknown[0][:60]!r} is unknown beside {', '.join(sorted(_PLAIN_FIELDS))}")
    values = {name: _text(document, name) for name in _PLAIN_FIELDS}
    token = values["token"] or values["registry_token"]
    if not token and not values["identity_token"] and not (values["username"] and values["password"]):
        raise ValueError("it needs `username` and `password`, or `token`, or `identity_token`")
    return Credential(
        entry="the file",
        username=values["username"],
        password=_secret(values["password"]),
        identity_token=_secret(values["identity_token"]),
        registry_token=_secret(token),
    )


def _docker(document: dict[str, Any]) -> CredentialFile:
    auths = {} if document.get("auths") is None else document["auths"]
    helpers = {} if document.get("credHelpers") is None else document["credHelpers"]
    if not isinstance(auths, dict):
        raise ValueError("`auths` is not an object")
    if not isinstance(helpers, dict):
        raise ValueError("`credHelpers` is not an object")
    entries = (_entry(key, value) for key, value in auths.items())
    return CredentialFile(
        entries=tuple(entry for entry in entries if entry is not None),
        helpers={host: _text(helpers, key) for key in helpers if (host := _host_and_path(key)[0])},
        store=_text(document, "credsStore"),
    )


def _entry(key: str, value: Any) -> Entry | None:
    """None where the entry is for no host, or empty, which means: ask the store."""
    host, path = _host_and_path(key)
    if not host or not value:
        return None
    try:
        credential = _credential(key, value)
    except ValueError as error:
        return Entry(host, path, None, f"the entry {key[:100]!r}: {error}")
    return None if credential is None else Entry(host, path, credential)


def _credential(key: str, value: Any) -> Credential | None:
    if not isinstance(value, dict):
        raise ValueError("is not an object")
    username, password = _text(value, "username"), _text(value, "password")
    if auth := _text(value, "auth"):
        username, password = _decode_auth(auth)
    identity, registry = _text(value, "identitytoken"), _text(value, "registrytoken")
    if not (username or password or identity or registry):
        return None
    if not (identity or registry) and not (username and password):
        raise ValueError("has an empty user name or password")
    return Credential(f"the entry {key[:100]!r}", username, _secret(password), _secret(identity), _secret(registry))


def _decode_auth(auth: str) -> tuple[str, str]:
    """User name and password of an `auth` field: base64 of `user:password`, split at the first colon."""
    text = "".join(auth.split())
    try:
        # Without `validate`, characters of other alphabets are dropped in silence, and the password is a wrong one.
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        decoded = raw.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise ValueError("its `auth` is not base64 of UTF-8 text") from None
    username, colon, password = decoded.partition(":")
    if not colon:
        raise ValueError("its `auth` holds no ':' between user name and password")
    return username, password.strip("\0")


def _host_and_path(key: str) -> tuple[str, str]:
    """The registry and repository path of a key; two empty texts where it is neither."""
    rest = re.sub(r"^https?://", "", key.strip(), flags=re.IGNORECASE)
    host, _, path = rest.partition("/")
    path = path.strip("/")
    if path in ("v1", "v2"):  # the API's path in keys of `docker login`, no repository
        path = ""
    try:
        if "*" in host:
            parse_host(host.replace("*", "x"))  # it is well formed but for its stars
            return host.lower(), path
        return parse_host(host), path
    except ValueError:
        return "", ""


def _is_host(pattern: str, registry: str) -> bool:
    """Whether the registry is the entry's host. A `*` reaches neither over a dot nor into a port."""
    if "*" not in pattern:
        return pattern == registry
    (wanted, wanted_port), (host, port) = split_host(pattern), split_host(registry)
    labels, there = wanted.split("."), host.split(".")
    return wanted_port == port and len(labels) == len(there) and all(map(fnmatchcase, there, labels))


def _is_prefix(path: str, repository: str) -> bool:
    return not path or repository == path or repository.startswith(f"{path}/")


def _helper(name: str, key: str) -> Helper | Entry:
    """The helper, or what is wrong with its name: a program is started by it."""
    if _HELPER_NAME.fullmatch(name):
        return Helper(name, key)
    problem = f"the name of a credential helper, {name[:60]!r}, is not made of a-z, 0-9 and '-'"
    return Entry(key, "", None, problem)


def _text(holder: dict[str, Any], name: str) -> str:
    value = holder.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is not a text")
    return value


def _secret(value: str) -> Secret | None:
    return Secret(value) if value else None
