"""Secrets that cannot be printed by accident, and the credentials made of them."""

import hashlib
import hmac

from msgspec import Struct

from connector.telemetry import SECRETS


class Secret:
    """A text that shows itself only to who asks by name; `repr`, `str` and f-strings give `***`.

    From its making on, no log line and no page shows it, in whatever text it comes back to us.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        _keep_from_view(value)

    def reveal(self) -> str:
        """The secret itself: for a header or a helper's standard input, never for a message."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)


class Credential(Struct, frozen=True):
    """What one entry of a credentials file says. `entry` names it in messages; it holds no secret."""

    entry: str
    username: str = ""
    password: Secret | None = None
    identity_token: Secret | None = None  # an OAuth2 refresh token
    registry_token: Secret | None = None  # a bearer token, used as it is

    @property
    def fingerprint(self) -> str:
        """Equal for equal credentials; tells nothing of them."""
        parts = [self.username, self.password, self.identity_token, self.registry_token]
        texts = [part.reveal() if isinstance(part, Secret) else part or "" for part in parts]
        return hashlib.sha256("\0".join(f"{len(text)}:{text}" for text in texts).encode()).hexdigest()[:16]


def _keep_from_view(value: str) -> None:
    """Register the value; of a header what follows the scheme, for that is what comes back in texts."""
    scheme, _, sent = value.partition(" ")
    if scheme == "Bearer" or "grant_type=" in value:  # made for one request, of what is registered by itself
        SECRETS.add_passing(sent or value)
    else:
        SECRETS.add(sent if scheme == "Basic" else value)
