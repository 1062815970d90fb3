"""References: the whole grammar, Docker Hub's names, and what looks like a reference but is none."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.errors import ConfigError
from connector.oci.reference import parse_host, parse_reference

D256 = "sha256:" + "a" * 64
D512 = "sha512:" + "b" * 128

GOOD = [
    ("alpine", "docker.io", "library/alpine", "latest", None),
    ("alpine:3", "docker.io", "library/alpine", "3", None),
    ("org/app", "docker.io", "org/app", "latest", None),
    ("docker.io/alpine", "docker.io", "library/alpine", "latest", None),
    ("index.docker.io/org/app:x", "docker.io", "org/app", "x", None),
    ("registry-1.docker.io/library/alpine", "docker.io", "library/alpine", "latest", None),
    ("ghcr.io/org/app:v1", "ghcr.io", "org/app", "v1", None),
    ("GHCR.IO/org/app:V1", "ghcr.io", "org/app", "V1", None),
    ("localhost/app", "localhost", "app", "latest", None),
    ("localhost:5000/a/b/c/d:t", "localhost:5000", "a/b/c/d", "t", None),
    ("host:5000/app", "host:5000", "app", "latest", None),
    ("Host/app", "host", "app", "latest", None),
    ("127.0.0.1:5000/app", "127.0.0.1:5000", "app", "latest", None),
    ("[::1]:5000/app:t", "[::1]:5000", "app", "t", None),
    ("[2001:db8::1]/app", "[2001:db8::1]", "app", "latest", None),
    (f"r.example/app@{D256}", "r.example", "app", None, D256),
    (f"r.example/app:t@{D256}", "r.example", "app", "t", D256),
    (f"r.example/app@{D512}", "r.example", "app", None, D512),
    ("r.example/a--b__c.d/e---f", "r.example", "a--b__c.d/e---f", "latest", None),
    ("r.example/app:_x.Y-9", "r.example", "app", "_x.Y-9", None),
    ("r.example/app:" + "t" * 128, "r.example", "app", "t" * 128, None),
]

BAD = [
    "",
    ":tag",
    "r.example/",
    "r.example/App",
    "r.example/app:",
    "r.example/app:.x",
    "r.example/app:-x",
    "r.example/app:" + "t" * 129,
    "r.example/app@",
    "r.example/app@sha256:abc",
    "r.example/app@sha256:" + "A" * 64,
    "r.example/app@md5:" + "a" * 32,
    f"r.example/app@{D256}@{D256}",
    "r.example/a//b",
    "r.example/-a",
    "r.example/a_-b",
    "r.example/a___b",
    "r.example/../b",
    "r.example/a b",
    "r.example/app#x",
    "r.example/app\n",
    " r.example/app",
    "https://r.example/app",
    "oci://r.example/app",
    "user@r.example/app",
    "r.example./app",
    "r..example/app",
    "-r.example/app",
    "r.example:0/app",
    "r.example:65536/app",
    "r.example:5 000/app",
    "r.example:٥/app",
    "[::1/app",
    "[zz::1]:5/app",
    "[::1]x/app",
    "[::1]80/app",
    "[::1]:/app",
    "a" * 64,
    "r.example/" + "a" * 250,
    "a" * 2000,
]


@pytest.mark.parametrize(("text", "registry", "repository", "tag", "digest"), GOOD)
def test_a_reference_is_taken_apart(text: str, registry: str, repository: str, tag: str | None, digest: str) -> None:
    reference = parse_reference(text)

    assert (reference.registry, reference.repository, reference.tag, reference.digest) == (
        registry, repository, tag, digest,
    )  # fmt: skip
    assert reference.text == text
    assert reference.target == (digest or tag)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_reference_is_one_clear_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_reference(text)

    assert caught.value.reason == "BadValue"
    assert "registry.example.com/org/name:tag" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_missing_tag_is_latest_and_says_so() -> None:
    assert parse_reference("r.example/app").is_default_tag
    assert not parse_reference("r.example/app:latest").is_default_tag
    assert not parse_reference(f"r.example/app@{D256}").is_default_tag


def test_docker_hub_is_asked_at_its_api_host() -> None:
    assert parse_reference("alpine").api_host == "registry-1.docker.io"
    assert parse_reference("r.example:5000/app").api_host == "r.example:5000"


@pytest.mark.parametrize("host", ["localhost.evil.example", "127.0.0.1.evil.example", "ghcr.io.evil.example"])
def test_a_look_alike_is_a_host_of_its_own(host: str) -> None:
    assert parse_reference(f"{host}/app").registry == host


@example("r.example/app@")
@example("[::1/app")
@example("r.example:/app")
@example("r.example:99999999/app")
@example("localhost/a:b:c")
@example("\u0130/app")  # its lower case has two characters
@example(f"r.example/{'a' * 250}")
@given(st.text(alphabet="abcA01.:/@-_[]#% \n\tsha256é", max_size=60))
def test_any_text_is_a_reference_that_parses_again_or_a_config_error(text: str) -> None:
    try:
        first = parse_reference(text)
    except ConfigError:
        return
    tag = f":{first.tag}" if first.tag else ""
    digest = f"@{first.digest}" if first.digest else ""
    again = parse_reference(f"{first.registry}/{first.repository}{tag}{digest}")
    assert (again.registry, again.repository, again.target) == (first.registry, first.repository, first.target)
    assert "#" not in first.text


@example("[")
@example("[]:1")
@example("[fe80::1%eth0]")
@example("a:\u0663")  # a digit, but not of ASCII
@example("\u212a.example")  # the sign for Kelvin, whose lower case is a k
@given(st.text(max_size=40))
def test_any_text_is_a_host_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_host(text) == parse_host(parse_host(text))


@pytest.mark.parametrize(
    ("text", "qualified"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("R.example/org/app:1", "r.example/org/app:1"),
        (f"r.example/app:1@sha256:{'a' * 64}", f"r.example/app:1@sha256:{'a' * 64}"),
        (f"r.example/app@sha256:{'a' * 64}", f"r.example/app@sha256:{'a' * 64}"),
    ],
)
def test_in_full_a_reference_names_its_host(text: str, qualified: str) -> None:
    assert parse_reference(text).qualified == qualified
