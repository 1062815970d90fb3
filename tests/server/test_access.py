"""Who may call what."""

import pytest

from connector.server.access import Access, refuse_command, refuse_host

OPEN = Access()
TOKEN = Access(token="s3cret-token")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8090",
        "10.2.3.4",
        "[::1]:8090",
        "localhost:8090",
        "LOCALHOST",
        "oci-sync:8090",
        "oci-sync.monitoring.svc:8090",
        "oci-sync.monitoring.svc.cluster.local.",
    ],
)
def test_addresses_and_names_nobody_can_buy_are_answered(host: str) -> None:
    assert refuse_host(host, OPEN) is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example.com:8090", 421),
        ("127.0.0.1.nip.io", 421),
        ("localhost.evil.com", 421),
        ("svc.evil.com", 421),
        ("256.1.1.1", 421),
        ("", 400),
        (None, 400),
        ("a b", 400),
        ("evil.com/localhost", 400),
        ("user@localhost", 400),
        ("localhost:port", 400),
        ("[::1", 400),
        ("lócalhost", 400),
    ],
)
def test_a_name_that_somebody_may_have_pointed_here_is_refused(host: str | None, status: int) -> None:
    refusal = refuse_host(host, OPEN)

    assert refusal is not None
    assert refusal.status == status


def test_a_name_that_the_worker_file_allows_is_answered_in_any_case() -> None:
    access = Access(allowed_hosts=frozenset({"Sync.Example.com"}))

    assert refuse_host("sync.example.COM:443", access) is None


def test_commands_from_this_machine_are_taken_without_a_token() -> None:
    for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert refuse_command({"Host": "127.0.0.1:8090"}, peer, OPEN) is None


@pytest.mark.parametrize("peer", ["10.0.0.7", "fe80::1%eth0", "", None, "nonsense"])
def test_commands_from_elsewhere_need_a_token(peer: str | None) -> None:
    refusal = refuse_command({"Host": "10.0.0.5"}, peer, OPEN)

    assert refusal is not None
    assert refusal.status == 403
    assert "http.token_file" in refusal.message


def test_a_proxy_on_this_machine_does_not_lend_its_address_to_its_clients() -> None:
    assert refuse_command({"Host": "localhost", "X-Forwarded-For": "6.6.6.6"}, "127.0.0.1", OPEN) is not None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://localhost:8090.evil.com"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_command_even_with_the_token(headers: dict[str, str]) -> None:
    headers = {"Host": "localhost:8090", "Authorization": "Bearer s3cret-token", **headers}

    for access in (OPEN, TOKEN):
        refusal = refuse_command(headers, "127.0.0.1", access)

        assert refusal is not None
        assert refusal.status == 403


def test_a_page_of_our_own_may_command() -> None:
    headers = {"Host": "localhost:8090", "Origin": "http://localhost:8090", "Sec-Fetch-Site": "same-origin"}

    assert refuse_command(headers, "127.0.0.1", OPEN) is None


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", "Basic s3cret-token", "Bearer s3cret-token2", "Bearer é"]
)
def test_a_wrong_token_is_refused_even_from_this_machine(given: str) -> None:
    refusal = refuse_command({"Host": "localhost", "Authorization": given}, "127.0.0.1", TOKEN)

    assert refusal is not None
    assert refusal.status == 401


def test_the_right_token_is_taken_from_anywhere_and_does_not_show() -> None:
    headers = {"Host": "10.0.0.5", "Authorization": "bearer s3cret-token"}

    assert refuse_command(headers, "10.9.9.9", TOKEN) is None
    assert "s3cret" not in repr(TOKEN)


def test_an_empty_token_lets_nobody_in() -> None:
    for given in ("Bearer", "Bearer ", "bearer  ", ""):
        assert refuse_command({"Host": "10.0.0.1:80", "Authorization": given}, "8.8.8.8", Access(token="")) is not None
