"""How the NATS store proves who it is: `.creds` or JSON files, and TLS."""

import json
import re
import ssl
from pathlib import Path
from typing import Any

from connector.errors import CredentialsError
from connector.telemetry import SECRETS

_JWT = re.compile(r"-BEGIN NATS USER JWT-+\s+([\w.-]+)\s+-+END NATS USER JWT-")
_SEED = re.compile(r"-BEGIN USER NKEY SEED-+\s+(\w+)\s+-+END USER NKEY SEED-")
_CREDENTIAL_NAMES = {"user": "user", "username": "user", "password": "password", "token": "token"}


def tls_context(ca_file: Path | None, client_cert: Path | None, client_key: Path | None) -> ssl.SSLContext:
    """What checks the server, and shows our certificate. Raises CredentialsError."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if client_cert:
            context.load_cert_chain(client_cert, client_key)
    except (OSError, ssl.SSLError) as error:
        raise CredentialsError(
            reason="CredentialsUnreadable",
            doing="reading ca_file, client_cert and client_key of NATS",
            cause=getattr(error, "strerror", None) or type(error).__name__,
            remedy="check the paths and that the files are PEM (operator)",
        ) from error
    return context


def client(*, needs_tls: bool) -> Any:
    """A nats.aio.client.Client, not connected. With `needs_tls` it tells no server without TLS who we are.

    By itself the client speaks in the clear with whoever does not ask for TLS, also where the address is `tls://`: a
    stranger in between would get the password. Its CONNECT is where the credentials go out.
    """
    import nats.errors
    from nats.aio.client import Client

    class Careful(Client):
        def _connect_command(self) -> bytes:
            if needs_tls and not self._server_info.get("tls_required"):
                raise nats.errors.Error("the server does not speak TLS, which tls:// or a certificate file asks for")
            return bytes(super()._connect_command())

    return Careful()


def login(path: Path | None) -> dict[str, Any]:
    """The arguments of `nats.connect` that a credentials file stands for. Raises CredentialsError."""
    if path is None:
        return {}
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or "not UTF-8") from error
    if "BEGIN NATS USER JWT" in text:
        _check_creds(path, text)
        return {"user_credentials": str(path)}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _unreadable(path, "neither a .creds file nor JSON") from error
    given = {_CREDENTIAL_NAMES[name]: value for name, value in _pairs(document) if name in _CREDENTIAL_NAMES}
    if set(given) not in ({"user", "password"}, {"token"}) or not all(isinstance(v, str) for v in given.values()):
        raise _unreadable(path, "it holds neither user and password nor token")
    SECRETS.add(*(str(given[name]) for name in ("password", "token") if name in given))
    return given


def _check_creds(path: Path, text: str) -> None:
    """The client would read the file in the middle of its handshake, where a broken one is no error of ours."""
    import nkeys

    seed, jwt = _SEED.search(text), _JWT.search(text)
    if seed is None or jwt is None:
        raise _unreadable(path, "it has no whole JWT and seed")
    try:
        nkeys.from_seed(bytearray(seed[1].encode())).wipe()
    except nkeys.NkeysError as error:
        raise _unreadable(path, "its seed is none") from error
    SECRETS.add(seed[1], jwt[1])


def _pairs(document: object) -> list[tuple[str, object]]:
    return list(document.items()) if isinstance(document, dict) else []


def _unreadable(path: Path, cause: str) -> CredentialsError:
    return CredentialsError(
        reason="CredentialsUnreadable",
        doing=f"reading the NATS credentials {path}",
        cause=cause,
        remedy='give a .creds file, or JSON such as {"user": ..., "password": ...} or {"token": ...} (operator)',
    )
