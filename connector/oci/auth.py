"""From a challenge to an Authorization header, as a generator without IO. Pure.

    steps = authorize(challenges, scope, credential)
    request = next(steps)                       # StopIteration.value is the Grant where no request is needed
    request = steps.send(TokenAnswer(200, b'{"token": …}'))

Rules (distribution's token specification and OAuth2 documents). (1) Bearer before Basic, whatever the order. (2) The
scope is ours, `repository:<name>:pull`, merged with the challenge's, since some registries name none in answer to a
HEAD. (3) A refresh token goes by POST; who does not know POST is asked by GET, if there is a password. (4) A token is
visible ASCII, lives from the moment we got it, and between one minute and one hour, whatever the server says.
"""

import base64
import re
from collections.abc import Generator, Sequence
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

from connector.oci.challenge import Challenge
from connector.oci.secret import Credential, Secret
from connector.oci.strict_json import parse_json

MAX_TOKEN_BYTES = 64 << 10
_SHORTEST_LIFE_SECONDS = 60.0
_LONGEST_LIFE_SECONDS = 3600.0
_STATIC_LIFE_SECONDS = 86_400.0  # what needs no renewal; a registry that stops taking it says 401
_USED_PART_OF_LIFE = 0.9  # so that a token does not die between the check and its use
_CLIENT_ID = "oci-sync"
_NULL_GUID = "00000000-0000-0000-0000-000000000000"  # Azure's user name for "the password is a refresh token"
_VISIBLE = re.compile(r"[\x21-\x7e]{1,65536}")


class TokenRequest(Struct, frozen=True):
    """What to send to a realm. `authorization` and `form` hold secrets."""

    method: str
    url: str
    authorization: Secret | None = None
    form: Secret | None = None

    @property
    def with_credentials(self) -> bool:
        """Whether anything in it would be worth stealing."""
        return self.authorization is not None or self.form is not None


class TokenAnswer(Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes


class Grant(Struct, frozen=True):
    """An Authorization header and how many seconds to use it."""

    authorization: Secret
    life_seconds: float
    challenges: tuple[Challenge, ...] = ()


class AuthorizationDenied(Exception):
    """No header can be had: `status` is the token endpoint's, 0 where it was not asked. The text holds no secret.

    `is_malformed`: no credentials would help, for the challenge itself cannot be followed.
    """

    def __init__(self, status: int, text: str, *, is_malformed: bool = False) -> None:
        self.status = status
        self.is_malformed = is_malformed
        super().__init__(text)


Steps = Generator[TokenRequest, TokenAnswer, Grant]


def authorize(challenges: Sequence[Challenge], scope: str, credential: Credential | None) -> Steps:
    """Yield the requests for a token, get their answers, return the Grant. Raises AuthorizationDenied."""
    kept = tuple(challenges)
    bearer = next((challenge for challenge in challenges if challenge.scheme == "bearer"), None)
    if bearer is not None:
        return (yield from _bearer(bearer, kept, scope, credential))
    if any(challenge.scheme == "basic" for challenge in challenges):
        header = _basic(credential)
        if header is None:
            raise AuthorizationDenied(0, "the registry asks for a user name and password, and there is none for it")
        return Grant(header, _STATIC_LIFE_SECONDS, kept)
    schemes = ", ".join(challenge.scheme[:30] for challenge in challenges[:5]) or "nothing"
    raise AuthorizationDenied(0, f"the registry asks for {schemes}; Bearer and Basic are known")


def merge_scopes(*scopes: str) -> str:
    """One scope text, its resources in order of appearance, the actions of equal resources merged and sorted."""
    actions: dict[str, set[str]] = {}
    for scope in " ".join(scopes).split():
        resource, colon, names = scope.rpartition(":")
        if colon:
            actions.setdefault(resource, set()).update(name for name in names.split(",") if name)
        else:
            actions.setdefault(scope, set())
    return " ".join(
        f"{resource}:{','.join(sorted(names))}" if names else resource for resource, names in actions.items()
    )


def _bearer(challenge: Challenge, kept: tuple[Challenge, ...], scope: str, credential: Credential | None) -> Steps:
    if credential is not None and credential.registry_token is not None:
        return Grant(_header("Bearer", credential.registry_token.reveal()), _STATIC_LIFE_SECONDS, kept)
    realm = challenge.parameters.get("realm", "")
    if not realm:
        raise AuthorizationDenied(0, "its WWW-Authenticate header names no realm", is_malformed=True)
    parameters = [("scope", merge_scopes(scope, challenge.parameters.get("scope", "")))]
    if service := challenge.parameters.get("service"):
        parameters.insert(0, ("service", service))
    answer = TokenAnswer(0, b"")
    try:
        requests = _requests(realm, parameters, credential)
    except ValueError:  # of urlsplit: brackets that are no address, characters that a host cannot have
        text = f"the realm {realm[:100]!r} of its WWW-Authenticate header is no URL"
        raise AuthorizationDenied(0, text, is_malformed=True) from None
    for request in requests:
        answer = yield request
        if answer.status == 200:
            token, life = _token(answer.body)
            return Grant(_header("Bearer", token), life, kept)
        if answer.status not in (404, 405):  # these say "not this way"; the next one may do
            break
    raise AuthorizationDenied(answer.status, f"the token endpoint answered {answer.status}{_why(answer.body)}")


def _requests(realm: str, parameters: list[tuple[str, str]], credential: Credential | None) -> list[TokenRequest]:
    """The ways to ask, best first."""
    get = _with_query(realm, parameters)
    if credential is None:
        return [TokenRequest("GET", get)]
    refresh = credential.identity_token or (credential.password if credential.username == _NULL_GUID else None)
    requests: list[TokenRequest] = []
    if refresh is not None:
        form = [("grant_type", "refresh_token"), ("refresh_token", refresh.reveal())]
        requests.append(TokenRequest("POST", realm, form=_form(parameters, form)))
    basic = _basic(credential)
    if basic is not None and credential.password is not None:
        requests.append(TokenRequest("GET", get, authorization=basic))
        form = [
            ("grant_type", "password"),
            ("username", credential.username),
            ("password", credential.password.reveal()),
        ]
        requests.append(TokenRequest("POST", realm, form=_form(parameters, form)))
    return requests or [TokenRequest("GET", get)]


def _token(body: bytes) -> tuple[str, float]:
    try:
        document = parse_json(body)
    except ValueError as error:
        raise AuthorizationDenied(200, f"the token endpoint's answer is {error}") from None
    if not isinstance(document, dict):
        raise AuthorizationDenied(200, "the token endpoint's answer is not a JSON object")
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not _VISIBLE.fullmatch(token):
        raise AuthorizationDenied(200, "the token endpoint's answer holds no token of visible characters")
    life = document.get("expires_in")
    if not isinstance(life, int | float) or isinstance(life, bool):
        life = _SHORTEST_LIFE_SECONDS
    return token, min(max(float(life), _SHORTEST_LIFE_SECONDS), _LONGEST_LIFE_SECONDS) * _USED_PART_OF_LIFE


def _with_query(realm: str, parameters: list[tuple[str, str]]) -> str:
    parts = urlsplit(realm)
    query = "&".join(part for part in (parts.query, urlencode(parameters)) if part)  # what stands there stays as it is
    return parts._replace(query=query, fragment="").geturl()


def _form(parameters: list[tuple[str, str]], secret: list[tuple[str, str]]) -> Secret:
    return Secret(urlencode([*parameters, ("client_id", _CLIENT_ID), *secret]))


def _basic(credential: Credential | None) -> Secret | None:
    if credential is None or credential.password is None:
        return None
    pair = f"{credential.username}:{credential.password.reveal()}"
    return _header("Basic", base64.b64encode(pair.encode()).decode("ascii"))


def _header(scheme: str, value: str) -> Secret:
    return Secret(f"{scheme} {value}")


def _why(body: bytes) -> str:
    """The OAuth2 or OCI error code of an answer, where it has one."""
    try:
        document = parse_json(body)
        code = document.get("error") or document["errors"][0]["code"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f" ({re.sub(r'[^A-Za-z0-9_ -]', '', code)[:60]})" if isinstance(code, str) else ""
