"""What a registry writes into its headers ends in an answer or in an error of the tree, whatever it is."""

from collections.abc import Coroutine, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connector.errors import OciSyncError, RegistryError
from connector.http_client import HttpOptions
from connector.oci.hosts import Hosts
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.oci.retry import RetryPolicy
from connector.oci.tags import list_tags
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry

_ONCE = RetryPolicy(max_attempts=1)
_PIECES = st.sampled_from(
    ["https://", "http://", "[", "]", "::1", "%", "@", ":", "/", "?", "#", "..", "\\", "0", "99999", ";", ",", " ", "=",
     "-", "x", "é", "℀", "٣", "127.0.0.1", "xn--", "Mon, 01 Jan 2026", "GMT", "+9999", "rel=next", "<", ">", "ms", "1"]
)  # fmt: skip
_TEXTS = st.lists(_PIECES, max_size=8).map("".join) | st.text(st.characters(min_codepoint=32), max_size=30)
_FRAMES = {
    "WWW-Authenticate": ['Bearer realm="{}"', 'Bearer realm="https://{}",service="s"', "{}", 'Basic realm="{}"'],
    "Link": ['<{}>; rel="next"', "<https://{}>; rel=next", "{}"],
    "Location": ["{}", "https://{}", "//{}"],
    "Retry-After": ["{}"],
    "Warning": ['299 - "{}"'],
    "RateLimit-Remaining": ["{}"],
}
_HEADERS = st.sampled_from([(name, frame) for name, frames in _FRAMES.items() for frame in frames])
_STATUSES = st.sampled_from([200, 307, 401, 429, 503])


@pytest.fixture(scope="module")
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STATUSES, _HEADERS, _TEXTS)
@example(401, ("WWW-Authenticate", 'Bearer realm="{}"'), "https://[x")
@example(401, ("WWW-Authenticate", 'Bearer realm="{}"'), "https://a℀b")
@example(401, ("WWW-Authenticate", 'Bearer realm="{}"'), "https://x:99999")
@example(200, ("Link", '<{}>; rel="next"'), "https://[x")
@example(200, ("Link", '<{}>; rel="next"'), "//a℀b")
@example(307, ("Location", "{}"), "https://[x")
@example(307, ("Location", "{}"), "//x:99999/")
@example(307, ("Location", "https://{}"), "℀")
@example(429, ("Retry-After", "{}"), "Mon, 01 Jan 0001 00:00:00 +9999")
@example(429, ("Retry-After", "{}"), "Mon, ")
@example(429, ("Retry-After", "{}"), "Sun, 31 Feb 2026 25:61:61 GMT")
async def test_any_header_gives_an_answer_or_an_error_of_the_tree(
    server: FakeRegistry, status: int, header: tuple[str, str], text: str
) -> None:
    name, frame = header
    value = frame.replace("{}", text).strip()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"tags": ["v1"]}, status=status, headers={name: value})

    server.heal()
    for on in ("HEAD ", "/tags/list"):
        server.answer(answer, on=on)
    reference = parse_reference(server.reference("org/app"))
    # With the fake as proxy too, no header leads off this machine.
    options = HttpOptions(proxy=server.url, connect_seconds=1, silence_seconds=1, head_seconds=1)
    async with Hosts(clock=FakeClock(), options=options) as hosts:
        registry = Registry(hosts, None, _ONCE)
        await _ends_well(registry.head(reference), server.address)
        await _ends_well(list_tags(registry, reference), server.address)


async def _ends_well(asked: Coroutine[None, None, object], host: str) -> None:
    try:
        await asked
        told = host
    except OciSyncError as error:
        told = str(error)
    assert host in told
    assert told.isprintable()


@pytest.mark.parametrize("realm", ["https://[x", "https://a℀b/token"])
async def test_a_realm_that_is_no_url_is_refused_by_the_name_of_host_and_header(
    hosts: Hosts, fake: FakeRegistry, realm: str, login: Path
) -> None:
    fake.fail_next(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}, times=20)

    for credentials in (None, login):
        with pytest.raises(RegistryError, match="WWW-Authenticate") as caught:
            await Registry(hosts, credentials, _ONCE).head(parse_reference(fake.reference("org/app")))

        assert caught.value.reason == "Unauthorized"
        assert fake.address in caught.value.cause
        assert "proxy in between" in caught.value.remedy


async def test_a_link_that_is_no_url_is_refused_by_the_name_of_host_and_header(
    hosts: Hosts, fake: FakeRegistry
) -> None:
    fake.fail_next(200, {"Link": '<https://[x>; rel="next"'}, body=b'{"tags": ["v1"]}')

    with pytest.raises(RegistryError, match="Link header") as caught:
        await list_tags(Registry(hosts), parse_reference(fake.reference("org/app")))

    assert fake.address in caught.value.cause
    assert len(fake.requests) == 1


@pytest.mark.parametrize("location", ["https://[x", "//a℀b/", "//127.0.0.1:99999/", "//127.0.0.1:0/", "ftp://x/"])
async def test_a_location_that_is_no_url_is_refused_by_the_name_of_the_host(
    hosts: Hosts, fake: FakeRegistry, location: str
) -> None:
    fake.fail_next(307, {"Location": location})

    with pytest.raises(RegistryError, match="redirects to") as caught:
        await Registry(hosts).head(parse_reference(fake.reference("org/app")))

    assert caught.value.reason == "RedirectRefused"
    assert fake.address in caught.value.cause


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 0001 00:00:00 +9999", "Mon,", "Sun, 31 Feb 2026 25:61:61 GMT", "-", "1e9", "٣", "9" * 60]
)
async def test_a_retry_after_that_says_nothing_holds_nobody(hosts: Hosts, fake: FakeRegistry, text: str) -> None:
    fake.fail_next(503, {"Retry-After": text})

    with pytest.raises(RegistryError) as caught:
        await Registry(hosts, None, _ONCE).head(parse_reference(fake.reference("org/app")))

    assert caught.value.retry_after in (None, 1.0)
