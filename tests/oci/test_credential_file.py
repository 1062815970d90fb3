"""The two formats of a credentials file, and which entries are for a reference."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.oci.credential_file import CredentialFile, Entry, Helper, parse_credentials
from connector.oci.reference import parse_reference

NAMES = ["auths", "credHelpers", "credsStore", "username", "password", "token", "r.example", "auth"]
DOCUMENTS = st.recursive(
    st.none() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=8,
)


def parse(document: object) -> CredentialFile:
    return parse_credentials(json.dumps(document).encode())


def auth(user: str = "u", password: str = "p") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def passwords(file: CredentialFile, artifact: str) -> list[str]:
    """What would be tried, in order: passwords of entries, names of helpers."""
    found: list[str] = []
    for match in file.matches(parse_reference(artifact)):
        if isinstance(match, Helper):
            found.append(f"helper {match.name} for {match.key}")
        else:
            assert match.credential is not None
            secret = match.credential.password or match.credential.identity_token or match.credential.registry_token
            assert secret is not None
            found.append(secret.reveal())
    return found


@pytest.mark.parametrize(
    ("document", "username", "password", "identity", "registry"),
    [
        ({"username": "u", "password": "p"}, "u", "p", None, None),
        ({"token": "t"}, "", None, None, "t"),
        ({"registry_token": "t"}, "", None, None, "t"),
        ({"identity_token": "i"}, "", None, "i", None),
        ({"username": "u", "password": "p", "identity_token": "i"}, "u", "p", "i", None),
    ],
)
def test_the_plain_format_is_for_the_registry_of_the_task(
    document: dict[str, str], username: str, password: str | None, identity: str | None, registry: str | None
) -> None:
    [match] = parse(document).matches(parse_reference("any.example:5000/app"))

    assert isinstance(match, Entry)
    assert match.credential is not None
    secrets = (match.credential.password, match.credential.identity_token, match.credential.registry_token)
    assert match.credential.username == username
    assert [secret and secret.reveal() for secret in secrets] == [password, identity, registry]


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"])
def test_docker_hubs_entry_is_found_under_each_of_its_names(key: str) -> None:
    file = parse({"auths": {key: auth(password="hub")}})

    for artifact in ("alpine", "docker.io/org/app", "index.docker.io/org/app", "registry-1.docker.io/org/app"):
        assert passwords(file, artifact) == ["hub"]
    assert passwords(file, "r.example/app") == []


@pytest.mark.parametrize("key", ["r.example", "https://r.example", "http://r.example/", "R.EXAMPLE", "r.example/v2/"])
def test_a_host_is_matched_however_its_key_is_written(key: str) -> None:
    assert passwords(parse({"auths": {key: auth()}}), "r.example/org/app") == ["p"]


@pytest.mark.parametrize("host", ["r.example:5000", "r.example.evil.example", "x.r.example", "r.exampl"])
def test_another_host_or_port_gets_nothing(host: str) -> None:
    assert passwords(parse({"auths": {"r.example": auth()}}), f"{host}/org/app") == []


def test_paths_match_at_segment_borders_and_the_longest_comes_first() -> None:
    file = parse(
        {
            "auths": {
                "r.example": auth(password="host"),
                "r.example/org": auth(password="org"),
                "r.example/org/app": auth(password="app"),
                "r.example/or": auth(password="never"),
                "r.example/org/app/deeper": auth(password="deeper"),
            }
        }
    )

    assert passwords(file, "r.example/org/app:t") == ["app", "org", "host"]
    assert passwords(file, "r.example/org/application") == ["org", "host"]
    assert passwords(file, "r.example/partial") == ["host"]


@pytest.mark.parametrize(
    ("key", "taken", "refused"),
    [
        ("*.r.example", ["eu.r.example"], ["r.example", "a.b.r.example", "eu.r.example:5000", "eu.r.example.evil"]),
        ("https://*.r.example/v2/", ["eu.r.example"], ["evil.example"]),
        ("reg*.example:5000", ["registry.example:5000", "reg.example:5000"], ["registry.example", "x.example:5000"]),
        ("*.*.example", ["a.b.example"], ["b.example"]),
    ],
)
def test_a_star_stands_for_a_part_of_one_label_as_in_kubernetes(key: str, taken: list[str], refused: list[str]) -> None:
    file = parse({"auths": {key: auth()}})

    assert [passwords(file, f"{host}/org/app") for host in taken] == [["p"]] * len(taken)
    assert [passwords(file, f"{host}/org/app") for host in refused] == [[]] * len(refused)


def test_a_host_that_is_written_out_comes_before_one_with_a_star() -> None:
    file = parse(
        {
            "auths": {
                "*.r.example/org/app": auth(password="star and path"),
                "*.r.example": auth(password="star"),
                "eu.r.example": auth(password="host"),
                "eu*.r.example": auth(password="longer star"),
            }
        }
    )

    assert passwords(file, "eu.r.example/org/app") == ["host", "star and path", "longer star", "star"]


def test_helpers_come_after_entries_and_the_hosts_own_before_the_store() -> None:
    file = parse(
        {
            "auths": {"r.example": auth(), "other.example": {}},
            "credHelpers": {"r.example": "ecr-login", "docker.io": "hub"},
            "credsStore": "desktop",
        }
    )

    assert passwords(file, "r.example/a") == ["p", "helper ecr-login for r.example", "helper desktop for r.example"]
    assert passwords(file, "other.example/a") == ["helper desktop for other.example"]
    assert passwords(file, "alpine")[0] == "helper hub for https://index.docker.io/v1/"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"auth": "!!!"}, "base64"),
        ({"auth": base64.urlsafe_b64encode("ü:ÿÿÿ>>?".encode("latin-1")).decode()}, "base64"),
        ({"auth": base64.b64encode(b"no colon").decode()}, "':'"),
        ({"auth": base64.b64encode(b"\xff\xfe:x").decode()}, "UTF-8"),
        ({"auth": base64.b64encode(b":secret").decode()}, "empty user name"),
        ({"auth": base64.b64encode(b"user:").decode()}, "empty"),
        ({"username": "u"}, "empty"),
        ({"auth": 7}, "`auth` is not a text"),
        ("text", "not an object"),
    ],
)
def test_a_broken_entry_is_named_when_it_is_needed_and_its_value_never_shown(value: Any, says: str) -> None:
    file = parse({"auths": {"r.example": value, "good.example": auth()}})

    [match] = file.matches(parse_reference("r.example/app"))
    assert isinstance(match, Entry)
    assert match.credential is None
    assert "'r.example'" in match.problem
    assert says in match.problem
    assert "secret" not in match.problem
    assert passwords(file, "good.example/app") == ["p"]


def test_what_real_files_do_to_auth_is_undone() -> None:
    encoded = auth("_json_key", '{"a": "b:c",\n"d": 1}')["auth"]

    for text in (encoded, encoded + "\n", encoded.rstrip("="), f" {encoded[:10]}\n{encoded[10:]}"):
        assert passwords(parse({"auths": {"r.example": {"auth": text}}}), "r.example/a") == ['{"a": "b:c",\n"d": 1}']
    padded = base64.b64encode(b"u:p\0\0").decode()
    assert passwords(parse({"auths": {"r.example": {"auth": padded}}}), "r.example/a") == ["p"]


@pytest.mark.parametrize(
    "value",
    [
        {"identitytoken": "i"},
        {"registrytoken": "i"},
        {"username": "u", "password": "i"},
        {"auth": auth()["auth"], "identitytoken": "i"},
    ],
)
def test_all_fields_of_docker_logins_are_read(value: dict[str, str]) -> None:
    [match] = parse({"auths": {"r.example": value}}).matches(parse_reference("r.example/a"))

    assert isinstance(match, Entry)
    assert match.credential is not None


@pytest.mark.parametrize(
    "document", [{}, {"auths": {}}, {"auths": None}, {"HttpHeaders": {}}, {"auths": {"": auth(), "a b": auth()}}]
)
def test_a_docker_config_without_entries_is_anonymous(document: dict[str, Any]) -> None:
    assert passwords(parse(document), "r.example/a") == []


@pytest.mark.parametrize(
    "document",
    [
        [],
        "x",
        {"auths": []},
        {"auths": "x"},
        {"credHelpers": []},
        {"credHelpers": {"h": 5}},
        {"username": "u"},
        {"username": "u", "password": 5},
        {"user": "u", "pass": "p"},
        {"username": "u", "password": "p", "hots": "x"},
        {"token": ""},
    ],
)
def test_a_file_of_another_shape_is_one_error(document: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(document)


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "A;rm", "x.exe.exe", ".exe"])
def test_a_helper_whose_name_is_no_program_of_the_kind_spoils_no_other_host(name: str) -> None:
    file = parse({"auths": {"r.example": auth()}, "credHelpers": {"bad.example": name}})

    assert passwords(file, "r.example/app") == ["p"]
    (match,) = file.matches(parse_reference("bad.example/app"))
    assert isinstance(match, Entry)
    assert "name of a credential helper" in match.problem


def test_a_store_of_docker_desktop_below_windows_is_a_helper() -> None:
    assert passwords(parse({"credsStore": "desktop.exe"}), "r.example/app") == ["helper desktop.exe for r.example"]


@given(DOCUMENTS)
def test_any_document_is_a_file_or_a_value_error(document: object) -> None:
    with contextlib.suppress(ValueError):
        parse(document).matches(parse_reference("r.example/app"))
