"""From challenge to Authorization header, step by step and without a network."""

import base64
import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from connector.oci.auth import AuthorizationDenied, Grant, TokenAnswer, TokenRequest, authorize, merge_scopes
from connector.oci.challenge import Challenge
from connector.oci.secret import Credential, Secret

SCOPE = "repository:org/app:pull"
BEARER = Challenge("bearer", {"realm": "https://auth.example/token?a=b", "service": "reg"})
BASIC = Challenge("basic", {"realm": "r"})
LOGIN = Credential("the file", "ci", Secret("p:a:ss"))
BASIC_HEADER = "Basic " + base64.b64encode(b"ci:p:a:ss").decode()


def good(**fields: object) -> TokenAnswer:
    return TokenAnswer(200, json.dumps({"token": "t"} | fields).encode())


def play(
    challenges: list[Challenge],
    credential: Credential | None,
    answer: Callable[[TokenRequest], TokenAnswer] | TokenAnswer = TokenAnswer(200, b'{"token":"t"}'),  # noqa: B008
) -> tuple[Grant, list[TokenRequest]]:
    steps = authorize(challenges, SCOPE, credential)
    requests: list[TokenRequest] = []
    try:
        request = next(steps)
        while True:
            requests.append(request)
            request = steps.send(answer(request) if callable(answer) else answer)
    except StopIteration as done:
        return done.value, requests


def form(request: TokenRequest) -> dict[str, str]:
    assert request.form is not None
    return {name: values[0] for name, values in parse_qs(request.form.reveal()).items()}


def test_basic_needs_no_request() -> None:
    grant, requests = play([BASIC], LOGIN)

    assert grant.authorization.reveal() == BASIC_HEADER
    assert requests == []


@pytest.mark.parametrize("challenges", [[BEARER, BASIC], [BASIC, BEARER], [Challenge("negotiate"), BASIC, BEARER]])
def test_bearer_comes_before_basic_whatever_the_order(challenges: list[Challenge]) -> None:
    grant, requests = play(challenges, LOGIN)

    assert grant.authorization.reveal() == "Bearer t"
    assert [request.method for request in requests] == ["GET"]


def test_a_password_goes_by_get_with_service_and_our_scope_beside_what_the_realm_has() -> None:
    _, [request] = play([BEARER], LOGIN)

    assert parse_qs(urlsplit(request.url).query) == {"a": ["b"], "service": ["reg"], "scope": [SCOPE]}
    assert request.authorization is not None
    assert request.authorization.reveal() == BASIC_HEADER
    assert "offline_token" not in request.url


def test_without_credentials_the_request_carries_none() -> None:
    _, [request] = play([BEARER], None)

    assert not request.with_credentials


def test_a_refresh_token_goes_by_post() -> None:
    _, [request] = play([BEARER], Credential("e", identity_token=Secret("refresh")))

    assert (request.method, request.url, request.authorization) == ("POST", "https://auth.example/token?a=b", None)
    assert form(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh",
        "service": "reg",
        "scope": SCOPE,
        "client_id": "oci-sync",
    }


def test_azures_null_guid_says_that_the_password_is_a_refresh_token() -> None:
    _, [request] = play([BEARER], Credential("e", "00000000-0000-0000-0000-000000000000", Secret("refresh")))

    assert form(request)["refresh_token"] == "refresh"


@pytest.mark.parametrize("status", [404, 405])
def test_who_does_not_know_post_is_asked_by_get(status: int) -> None:
    credential = Credential("e", "ci", Secret("p"), identity_token=Secret("refresh"))

    _, requests = play([BEARER], credential, lambda r: TokenAnswer(status, b"") if r.method == "POST" else good())

    assert [request.method for request in requests] == ["POST", "GET"]


def test_who_does_not_know_get_is_asked_by_post() -> None:
    _, requests = play([BEARER], LOGIN, lambda r: TokenAnswer(405, b"") if r.method == "GET" else good())

    assert form(requests[-1]) | {"grant_type": "password", "username": "ci", "password": "p:a:ss"} == form(requests[-1])


def test_a_registry_token_is_used_as_it_is() -> None:
    grant, requests = play([BEARER], Credential("e", registry_token=Secret("mine")))

    assert (grant.authorization.reveal(), requests) == ("Bearer mine", [])


@pytest.mark.parametrize(
    ("fields", "life"),
    [
        ({}, 60),
        ({"expires_in": 0}, 60),
        ({"expires_in": -5}, 60),
        ({"expires_in": "600"}, 60),
        ({"expires_in": None}, 60),
        ({"expires_in": True}, 60),
        ({"expires_in": 600}, 600),
        ({"expires_in": 10**9}, 3600),
        ({"expires_in": 600, "issued_at": "2199-01-01T00:00:00Z"}, 600),
    ],
)
def test_a_token_lives_between_a_minute_and_an_hour_and_is_renewed_early(
    fields: dict[str, object], life: float
) -> None:
    grant, _ = play([BEARER], None, good(**fields))

    assert grant.life_seconds == pytest.approx(0.9 * life)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"token": null}',
        b'{"token": 5}',
        b'{"token": ""}',
        b'{"token": "a b"}',
        b'{"token": "a\\r\\nX: y"}',
        b'{"token": "\xc3\xa9"}',
        b'{"token":"a","token":"b"}',
        b'{"token": "' + b"a" * 70_000 + b'"}',
    ],
)
def test_a_token_that_is_no_visible_text_is_refused(body: bytes) -> None:
    with pytest.raises(AuthorizationDenied):
        play([BEARER], None, TokenAnswer(200, body))


def test_an_access_token_is_a_token_too() -> None:
    grant, _ = play([BEARER], None, TokenAnswer(200, b'{"access_token": "a"}'))

    assert grant.authorization.reveal() == "Bearer a"


def test_a_denial_names_the_status_and_the_error_code_and_no_secret() -> None:
    with pytest.raises(AuthorizationDenied, match=r"401 \(invalid_grant\)") as caught:
        play([BEARER], LOGIN, TokenAnswer(401, b'{"error": "invalid_grant"}'))

    assert caught.value.status == 401
    assert "p:a:ss" not in str(caught.value)


@pytest.mark.parametrize("challenges", [[], [Challenge("negotiate")], [Challenge("bearer")]])
def test_what_cannot_be_answered_is_denied_without_a_request(challenges: list[Challenge]) -> None:
    with pytest.raises(AuthorizationDenied):
        play(challenges, LOGIN)


def test_basic_without_a_password_is_denied() -> None:
    with pytest.raises(AuthorizationDenied, match="user name and password"):
        play([BASIC], None)


@pytest.mark.parametrize(
    ("scopes", "merged"),
    [
        (("repository:a:pull", ""), "repository:a:pull"),
        (("repository:a:pull", "repository:a:push,pull"), "repository:a:pull,push"),
        (
            ("repository:a:pull", "repository:b:pull registry:catalog:*"),
            "repository:a:pull repository:b:pull registry:catalog:*",
        ),
        (("repository:h:5000/a:pull", "repository:h:5000/a:pull"), "repository:h:5000/a:pull"),
        (("repository:a:pull", "odd"), "repository:a:pull odd"),
    ],
)
def test_scopes_are_merged_by_resource(scopes: tuple[str, ...], merged: str) -> None:
    assert merge_scopes(*scopes) == merged


def test_secrets_do_not_show_themselves() -> None:
    grant, [request] = play([BEARER], LOGIN)

    shown = f"{grant!r} {request!r} {LOGIN!r} {LOGIN} {LOGIN.password!s} {LOGIN.password}"
    assert "p:a:ss" not in shown
    assert BASIC_HEADER not in shown
    assert "Bearer t" not in shown
