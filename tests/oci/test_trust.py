"""Who may be sent what: vectors for plain HTTP, addresses, redirects and realms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.oci.trust import (
    address_literal,
    is_local,
    is_loopback,
    is_named,
    origin_of,
    refusal_of_realm,
    refusal_of_redirect,
    resolve_location,
    scheme_for,
)

REGISTRY = origin_of("https://registry.example.com")
LOOPBACK = origin_of("http://127.0.0.1:5000")

LOCAL = [
    "127.0.0.1",
    "127.9.9.9",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "0.0.0.0",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "0177.0.0.1",
    "017700000001",
    "localhost",
    "LOCALHOST",
    "x.localhost",
    "metadata.google.internal",
    "printer.local",
    "[::1]",
    "127.0.0.1.",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700::1111",
    "registry.example.com",
    "localhost.example.com",
    "127.0.0.1.example.com",
]


@pytest.mark.parametrize("host", LOCAL)
def test_an_address_that_is_not_public_is_local_in_every_spelling(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_and_look_alike_names_are_not_local(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    ("host", "plain_http", "scheme"),
    [
        ("127.0.0.1", None, "http"),
        ("127.0.0.2", None, "http"),
        ("localhost", None, "http"),
        ("LocalHost", None, "http"),
        ("[::1]", None, "http"),
        ("127.0.0.1", False, "https"),
        ("registry.example.com", None, "https"),
        ("registry.example.com", True, "http"),
        ("localhost.evil.example", None, "https"),
        ("127.0.0.1.evil.example", None, "https"),
        ("10.0.0.1", None, "https"),
        ("2130706433", None, "https"),
        ("127.1", None, "https"),
        ("localhost.", None, "https"),
    ],
)
def test_plain_http_is_for_exact_loopback_literals_or_the_setting(
    host: str, plain_http: bool | None, scheme: str
) -> None:
    assert scheme_for(host, plain_http) == scheme


@pytest.mark.parametrize(
    ("current", "target", "addresses"),
    [
        ("https://registry.example.com", "http://cdn.example.net/x", ["8.8.8.8"]),
        ("https://registry.example.com", "http://registry.example.com/x", ["8.8.8.8"]),
        ("https://registry.example.com", "https://169.254.169.254/x", []),
        ("https://registry.example.com", "https://[::ffff:10.0.0.1]/x", []),
        ("https://registry.example.com", "https://2130706433/x", []),
        ("https://registry.example.com", "https://localhost/x", []),
        ("https://registry.example.com", "https://cdn.example.net/x", ["8.8.8.8", "10.0.0.1"]),
        ("https://registry.example.com", "https://metadata.google.internal/x", []),
        ("https://cdn.example.net", "https://cdn.example.net/y", ["10.0.0.1"]),
    ],
)
def test_a_redirect_that_downgrades_or_goes_inside_is_refused(current: str, target: str, addresses: list[str]) -> None:
    assert refusal_of_redirect(origin_of(current), origin_of(target), addresses, registry_is_local=False)


@pytest.mark.parametrize(
    ("current", "target", "addresses", "registry_is_local"),
    [
        ("https://registry.example.com", "https://registry.example.com/y", ["8.8.8.8"], False),
        ("https://registry.example.com", "https://registry.example.com/y", ["10.0.0.1"], True),
        ("https://registry.example.com", "https://cdn.example.net/x", ["8.8.8.8"], False),
        ("http://127.0.0.1:5000", "http://127.0.0.1:9000/x", ["127.0.0.1"], True),
        ("https://registry.example.com", "https://minio.corp/x", ["10.0.0.9"], True),
        ("http://127.0.0.1:5000", "https://cdn.example.net/x", ["8.8.8.8"], True),
    ],
)
def test_a_redirect_to_where_blobs_live_is_followed(
    current: str, target: str, addresses: list[str], registry_is_local: bool
) -> None:
    assert (
        refusal_of_redirect(origin_of(current), origin_of(target), addresses, registry_is_local=registry_is_local)
        is None
    )


@pytest.mark.parametrize("location", ["https://h/a;", "https://h/a?", "HTTPS://h/a/../b?x=%2F%7e+;#part"])
def test_an_absolute_location_stays_as_it_is_but_for_its_fragment(location: str) -> None:
    assert resolve_location("https://r.example/v2/", location) == location.partition("#")[0]


@pytest.mark.parametrize("location", ["", "ftp://x/y", "file:///etc/passwd", "https://u:p@h/x", "https://h/\r\nX"])
def test_a_location_that_is_no_place_is_an_error(location: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        resolve_location("https://registry.example.com/v2/a", location)


def test_a_relative_location_is_resolved() -> None:
    assert resolve_location("https://r.example/v2/a/b", "../c?d#e") == "https://r.example/v2/c?d"


@pytest.mark.parametrize(
    "realm",
    [
        "https://10.0.0.1/t",
        "https://169.254.169.254/t",
        "https://[::1]/t",
        "https://0x7f.1/t",
        "https://localhost/t",
        "https://registry.example.com.evil.example/t",
        "http://registry.example.com/t",
        "http://127.0.0.1:5000/t",
        "https://evil.example/t",
        "https://127.0.0.1:443/t",
    ],
)
def test_a_realm_elsewhere_gets_no_credentials(realm: str) -> None:
    assert refusal_of_realm(REGISTRY, origin_of(realm), ["8.8.8.8"], (), with_credentials=True)


def test_a_realm_whose_name_leads_inside_gets_nothing_at_all() -> None:
    realm = origin_of("https://auth.example.com/t")

    assert refusal_of_realm(REGISTRY, realm, ["8.8.8.8", "10.0.0.1"], (), with_credentials=False)


def test_a_public_realm_under_another_domain_may_be_asked_without_credentials() -> None:
    realm = origin_of("https://auth.elsewhere.example/t")

    assert refusal_of_realm(REGISTRY, realm, ["8.8.8.8"], (), with_credentials=False) is None
    assert refusal_of_realm(REGISTRY, realm, ["8.8.8.8"], (), with_credentials=True)


@pytest.mark.parametrize(
    ("registry", "realm", "trusted"),
    [
        ("https://registry.example.com", "https://registry.example.com/t", ()),
        ("https://registry.example.com", "https://auth.example.com/t", ()),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", ()),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", ()),
        ("https://nvcr.io", "https://authn.nvidia.com/token", ()),
        ("https://lscr.io", "https://ghcr.io/token", ()),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", ()),
        ("http://localhost:5000", "http://127.0.0.1:5001/t", ()),
        ("http://registry.corp:5000", "https://registry.corp:5000/t", ()),
        ("http://127.0.0.1:5000", "https://127.0.0.1:5001/t", ()),
        ("https://registry.example.com", "https://sso.corp.example.net/t", ("sso.corp.example.net",)),
        ("https://registry.example.com", "https://10.0.0.1:8443/t", ("10.0.0.1:8443",)),
        ("https://10.0.0.7:5000", "https://10.0.0.7:5000/t", ()),
    ],
)
def test_a_realm_that_belongs_to_the_registry_gets_credentials(
    registry: str, realm: str, trusted: tuple[str, ...]
) -> None:
    addresses = ["8.8.8.8"] if not trusted else ["10.0.0.1"]

    assert refusal_of_realm(origin_of(registry), origin_of(realm), addresses, trusted, with_credentials=True) is None


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://gitlab.corp.example.com:5050", "https://gitlab.corp.example.com/jwt/auth"),
        ("https://registry.corp.example.com", "https://gitlab.corp.example.com/jwt/auth"),
    ],
)
def test_a_realm_beside_a_private_registry_gets_its_credentials(registry: str, realm: str) -> None:
    inside = ["10.1.2.3"]
    one, other = origin_of(registry), origin_of(realm)

    assert refusal_of_realm(one, other, inside, (), with_credentials=True, registry_is_local=True) is None
    if one.host != other.host:
        assert refusal_of_realm(one, other, inside, (), with_credentials=True, registry_is_local=False)
    elsewhere = origin_of("https://intranet.other.example/t")
    assert refusal_of_realm(one, elsewhere, inside, (), with_credentials=False, registry_is_local=True)


@pytest.mark.parametrize("name", ["sso.example", "sso.example:443"])
def test_a_trusted_realm_may_be_written_with_and_without_the_default_port(name: str) -> None:
    assert is_named(origin_of("https://sso.example/t"), [name])
    assert not is_named(origin_of("https://sso.example.evil.example/t"), [name])


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://a.azurecr.io", "https://b.azurecr.io/t"),
        ("https://1.dkr.ecr.eu-west-1.amazonaws.com", "https://evil.s3.amazonaws.com/t"),
        ("https://registry.co.uk", "https://evil.co.uk/t"),
        ("https://a.github.io", "https://b.github.io/t"),
        ("https://com", "https://evil.com/t"),
    ],
)
def test_a_suffix_that_strangers_share_is_no_common_domain(registry: str, realm: str) -> None:
    assert refusal_of_realm(origin_of(registry), origin_of(realm), ["8.8.8.8"], (), with_credentials=True)


@pytest.mark.parametrize(
    "url",
    ["", "realm", "/t", "ftp://h/t", "https:///t", "https://u@h/t", "https://h\\@evil/t", "https://h:99999/t",
     "https://h:0/t", "https://[h/t", "https://hé/t", "https://h/é", 'https://h",x/t', "https://h:x/t"],
)  # fmt: skip
def test_what_is_no_http_url_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        origin_of(url)


@given(st.text(alphabet="0123456789abcdefx.:[]%-", max_size=30))
def test_any_host_text_is_judged_and_loopback_is_always_local(host: str) -> None:
    assert not (is_loopback(host) and not is_local(host))
    address_literal(host)
