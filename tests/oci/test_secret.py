"""Secrets: they show themselves to who asks by name, and their text is shown by nobody."""

import base64
import json
from pathlib import Path

import pytest

from connector.oci.auth import TokenAnswer, authorize
from connector.oci.challenge import parse_challenges
from connector.oci.credentials import Credentials
from connector.oci.reference import parse_reference
from connector.oci.secret import Credential, Secret
from connector.telemetry import SECRETS

APP = parse_reference("r.example/org/app")
REALM = 'Bearer realm="https://r.example/token",service="r"'


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_secret_shows_itself_by_no_accident() -> None:
    secret = Secret("open-sesame")

    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    assert secret.reveal() == "open-sesame"


def test_a_short_one_is_no_secret_since_it_would_blot_out_ordinary_text() -> None:
    Secret("kafka")

    assert SECRETS.redact("kafka answers") == "kafka answers"


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"username": "bob", "password": "sesame-1 with blanks"}, "sesame-1 with blanks"),
        ({"token": "sesame-2-token"}, "sesame-2-token"),
        ({"identity_token": "sesame-3-refresh"}, "sesame-3-refresh"),
        ({"auths": {"r.example": {"auth": encoded("bob:sesame-4-docker")}}}, "sesame-4-docker"),
    ],
)
async def test_what_a_credentials_file_holds_is_shown_nowhere(
    tmp_path: Path, document: dict[str, object], value: str
) -> None:
    (tmp_path / "c.json").write_text(json.dumps(document))

    await Credentials(tmp_path / "c.json").candidates(APP)

    assert SECRETS.redact(f"401: {value!r} is wrong, bob") == "401: '***' is wrong, bob"


def test_the_header_that_is_made_of_a_password_is_shown_nowhere() -> None:
    steps = authorize(parse_challenges(["Basic"]), "", Credential("e", "bob", Secret("sesame-5-basic")))

    with pytest.raises(StopIteration):
        next(steps)

    assert SECRETS.redact(f"got Basic {encoded('bob:sesame-5-basic')}") == "got Basic ***"


def test_a_token_that_a_registry_gave_is_shown_nowhere_with_or_without_its_scheme() -> None:
    steps = authorize(parse_challenges([REALM]), "repository:org/app:pull", None)
    next(steps)

    with pytest.raises(StopIteration):
        steps.send(TokenAnswer(200, b'{"token": "sesame.6.jwt"}'))

    assert SECRETS.redact("Bearer sesame.6.jwt, or sesame.6.jwt") == "Bearer ***, or ***"


def test_a_thousand_forms_and_tokens_push_out_no_password() -> None:
    Secret("sesame-7-password")
    for number in range(1_100):
        Secret(f"service=r&scope={number}&grant_type=refresh_token&refresh_token=sesame")
        Secret(f"Bearer sesame.{number}.jwt")

    assert SECRETS.redact("sesame-7-password") == "***"
