"""Credentials, tokens and redirects on the wire: what each host received, and what it did not.

Every test runs on both transports.
"""

import asyncio
import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from connector.errors import CredentialsError, OciSyncError, RegistryError
from connector.http_client import TransportName
from connector.oci.digest import Digest
from connector.oci.hosts import Hosts, HostSettings
from connector.oci.manifest import Descriptor
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from tests.fakes.clock import FakeClock
from tests.fakes.registry import PASSWORD, FakeRegistry, Published
from tests.oci.conftest import RETRY

FILES = {"a.yaml": b"a: 1\n"}


def lines(fake: FakeRegistry) -> list[str]:
    """Methods and kinds of path, in order."""
    return [
        f"{seen.method} {seen.path.partition('?')[0].split('/')[-2 if '/v2/' in seen.path else -1]}"
        for seen in fake.requests
    ]


def credentials(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(document))
    return path


async def head(hosts: Hosts, fake: FakeRegistry, path: Path | None = None, repository: str = "org/app") -> Descriptor:
    """A HEAD that is not shared with the one before."""
    if isinstance(hosts.clock, FakeClock):
        hosts.clock.advance(0.1)
    return await Registry(hosts, path, RETRY).head(parse_reference(fake.reference(repository)))


async def blob(hosts: Hosts, fake: FakeRegistry, published: Published, path: Path | None = None) -> bytes:
    reference = parse_reference(fake.reference("org/app"))
    layer = Descriptor("application/yaml", Digest(published.layers[0]), len(FILES["a.yaml"]))
    async with Registry(hosts, path, RETRY).blob(reference, layer, "fetching a layer") as response:
        return await response.body(1000)


async def test_a_quiet_tick_is_one_head_on_a_kept_connection_with_a_cached_token(hosts: Hosts, login: Path) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        await head(hosts, fake, login)
        before = len(fake.requests)

        for _ in range(5):
            await head(hosts, fake, login)

        quiet = fake.requests[before:]
        assert [seen.method for seen in quiet] == ["HEAD"] * 5
        assert {seen.connection for seen in fake.requests} == {0}
        assert lines(fake)[:3] == ["HEAD manifests", "GET token", "HEAD manifests"]
        assert fake.count(" /v2/ ") == 0


async def test_sources_that_share_a_reference_share_its_head(hosts: Hosts, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", FILES)
    reference = parse_reference(fake.reference("org/app"))

    answers = await asyncio.gather(*(Registry(hosts).head(reference) for _ in range(10)))

    assert len(set(map(repr, answers))) == 1
    assert fake.count("HEAD") == 1


async def test_sources_with_different_credentials_do_not_share(hosts: Hosts, fake: FakeRegistry, login: Path) -> None:
    fake.publish("org/app", "prod", FILES)
    reference = parse_reference(fake.reference("org/app"))

    await asyncio.gather(Registry(hosts).head(reference), Registry(hosts, login).head(reference))

    assert fake.count("HEAD") == 2


async def test_basic_is_sent_only_after_it_was_asked_for_and_then_kept(hosts: Hosts, login: Path) -> None:
    with FakeRegistry(auth="basic") as fake:
        fake.publish("org/app", "prod", FILES)

        await head(hosts, fake, login)
        await head(hosts, fake, login)

        assert ["authorization" in seen.headers for seen in fake.requests] == [False, True, True]


async def test_an_anonymous_token_is_got_where_there_are_no_credentials(hosts: Hosts) -> None:
    with FakeRegistry(auth="bearer", anonymous=True) as fake:
        fake.publish("org/app", "prod", FILES)

        await head(hosts, fake)

        assert "authorization" not in fake.requests[1].headers


async def test_a_token_is_renewed_before_its_life_ends_and_not_earlier(
    hosts: Hosts, login: Path, clock: FakeClock
) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        fake.token_answer = {"expires_in": 600}
        await head(hosts, fake, login)

        clock.advance(530)
        await head(hosts, fake, login)
        assert fake.count("/token") == 1

        clock.advance(20)
        await head(hosts, fake, login)
        assert fake.count("/token") == 2


@pytest.mark.parametrize("status", [401, 403, 400])
async def test_an_expired_token_is_replaced_once_and_the_request_replayed_whole(
    hosts: Hosts, login: Path, status: int
) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        await head(hosts, fake, login)
        fake.forget_tokens()
        fake.denied_status = status
        before = len(fake.requests)

        await head(hosts, fake, login)

        assert lines(fake)[before:] == ["HEAD manifests", "GET token", "HEAD manifests"]
        first, last = fake.requests[before], fake.requests[-1]
        changed = {name for name in first.headers if first.headers[name] != last.headers.get(name)}
        assert changed == {"authorization"}


@pytest.mark.parametrize("status", [401, 403, 400])
async def test_a_fresh_token_that_is_refused_ends_it(hosts: Hosts, login: Path, status: int) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        for _ in range(3):
            fake.fail_next(401, {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'}, on="HEAD")
            fake.fail_next(status, on="HEAD", code="DENIED")

        with pytest.raises(RegistryError) as caught:
            await head(hosts, fake, login)

        assert caught.value.reason == {401: "Unauthorized", 403: "Forbidden", 400: "RequestRefused"}[status]
        assert not caught.value.transient
        assert len(fake.requests) == 3


async def test_many_requests_that_need_one_token_fetch_it_once(hosts: Hosts, login: Path) -> None:
    with FakeRegistry(auth="bearer") as fake:
        published = fake.publish("org/app", "prod", FILES)

        await asyncio.gather(*(blob(hosts, fake, published, login) for _ in range(20)))

        assert fake.count("/token") == 1


async def test_a_token_of_one_repository_is_not_used_for_another(hosts: Hosts, login: Path) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        fake.publish("org/other", "prod", FILES)

        await head(hosts, fake, login)
        await head(hosts, fake, login, "org/other")

        assert fake.count("/token") == 2
        assert "repository%3Aorg%2Fother%3Apull" in fake.requests[-2].path.replace(":", "%3A").replace("/", "%2F")


async def test_every_fitting_entry_is_tried_until_one_is_taken(hosts: Hosts, tmp_path: Path) -> None:
    for auth in ("basic", "bearer"):
        with FakeRegistry(auth=auth) as fake:
            fake.publish("org/app", "prod", FILES)
            path = credentials(
                tmp_path,
                {"auths": {
                    f"{fake.address}/org/app": {"username": "ci", "password": "wrong"},
                    f"{fake.address}/org": {"username": "nobody", "password": "wrong too"},
                    fake.address: {"username": "ci", "password": PASSWORD},
                }},
            )  # fmt: skip

            await head(hosts, fake, path)
            before = len(fake.requests)
            await head(hosts, fake, path)

            assert len(fake.requests) == before + 1


async def test_a_wrong_password_is_one_error_that_names_the_entry_and_no_secret(hosts: Hosts, tmp_path: Path) -> None:
    for auth in ("basic", "bearer"):
        with FakeRegistry(auth=auth) as fake:
            fake.publish("org/app", "prod", FILES)
            path = credentials(tmp_path, {"auths": {fake.address: {"username": "ci", "password": "hush-hush"}}})

            with pytest.raises(RegistryError) as caught:
                await head(hosts, fake, path)

            assert caught.value.reason == "Unauthorized"
            assert fake.address in str(caught.value)
            assert "401" in str(caught.value)
            assert "hush-hush" not in str(caught.value)


async def test_a_rotated_password_is_used_at_the_next_tick(hosts: Hosts, tmp_path: Path) -> None:
    with FakeRegistry(auth="basic", users={"ci": "new"}) as fake:
        fake.publish("org/app", "prod", FILES)
        path = credentials(tmp_path, {"username": "ci", "password": "old"})
        registry = Registry(hosts, path, RETRY)
        reference = parse_reference(fake.reference("org/app"))
        with pytest.raises(RegistryError):
            await registry.head(reference)

        credentials(tmp_path, {"username": "ci", "password": "new"})

        assert (await registry.head(reference)).digest


@pytest.mark.parametrize("token_post", [True, False])
async def test_a_refresh_token_gets_an_access_token(hosts: Hosts, tmp_path: Path, token_post: bool) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        fake.refresh_tokens = {"refresh-me"}
        fake.token_post = token_post
        path = credentials(
            tmp_path,
            {"auths": {fake.address: {"username": "ci", "password": PASSWORD, "identitytoken": "refresh-me"}}},
        )

        await head(hosts, fake, path)

        methods = [seen.method for seen in fake.requests if seen.path.startswith("/token")]
        assert methods == (["POST"] if token_post else ["POST", "GET"])


async def test_a_realm_on_another_host_gets_no_request(hosts: Hosts, login: Path, other: FakeRegistry) -> None:
    for realm in (
        "http://10.0.0.1/token",
        "http://169.254.169.254/token",
        "ftp://x/",
        "/token",
        f"http://u@{other.address}/token",
    ):
        with FakeRegistry(auth="bearer", realm=realm) as fake:
            fake.publish("org/app", "prod", FILES)

            with pytest.raises((CredentialsError, RegistryError)) as caught:
                await head(hosts, fake, login)

            assert caught.value.reason == "RealmRefused"
            assert "trusted_realms" in str(caught.value)
            assert PASSWORD not in str(caught.value)
    assert other.requests == []


async def test_a_loopback_registry_may_have_its_realm_on_another_loopback_port(hosts: Hosts, login: Path) -> None:
    with FakeRegistry(auth="bearer") as realm, FakeRegistry(auth="bearer", realm=f"{realm.url}/token") as fake:
        fake.publish("org/app", "prod", FILES)
        fake._tokens = realm._tokens  # both know the tokens

        await head(hosts, fake, login)

        assert [seen.method for seen in realm.requests] == ["GET"]


async def test_a_token_endpoint_that_redirects_is_not_followed(hosts: Hosts, login: Path, other: FakeRegistry) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        fake.redirect(f"{other.url}/token", on="/token")

        with pytest.raises(OciSyncError, match="307"):
            await head(hosts, fake, login)

    assert other.requests == []


@pytest.mark.parametrize("status", [429, 503])
async def test_a_token_endpoint_in_trouble_is_asked_again(
    hosts: Hosts, login: Path, clock: FakeClock, status: int
) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        fake.fail_next(status, {"Retry-After": "7"}, on="/token")

        await head(hosts, fake, login)

        assert sum(clock.slept) >= 7


async def test_an_endless_token_is_cut(hosts: Hosts, login: Path) -> None:
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)
        fake.fail_next(200, body=b'{"token": "' + b"a" * 200_000, on="/token", times=5)

        with pytest.raises(RegistryError, match="too much"):
            await head(hosts, fake, login)


async def test_the_signed_url_of_a_redirect_is_asked_byte_for_byte(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    target = "/storage/x%2Fy%7Ez;/" + published.layers[0] + "?X-Sig=a%2Fb+c%20d;e~f&empty="
    fake.redirect(other.url + target, on="/blobs/")
    other.blobs = fake.blobs

    assert await blob(hosts, fake, published) == FILES["a.yaml"]
    assert [seen.target for seen in other.requests] == [target]


async def test_a_redirect_that_is_not_ascii_is_refused(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.redirect("/storage/é", on="/blobs/")

    with pytest.raises(RegistryError, match="outside of ASCII"):
        await blob(hosts, fake, published)


@pytest.mark.parametrize(
    ("location", "cause"),
    [
        ("http://10.0.0.1/x", "10.0.0.1 is a private address"),
        ("http://2130706433/x", "2130706433 is a private address"),
        ("http://storage.test/x", "storage.test is a private address"),
    ],
)
async def test_the_first_redirect_of_a_public_registry_to_the_inside_is_refused_by_address_and_by_name(
    fake: FakeRegistry, transport: TransportName, monkeypatch: pytest.MonkeyPatch, location: str, cause: str
) -> None:
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: inside)
    fake.redirect(location, on="HEAD ")
    settings = {"registry.test": HostSettings(plain_http=True, proxy=fake.url)}

    async with Hosts(settings, transport=transport, environment_proxies=False) as hosts:
        with pytest.raises(RegistryError, match=cause) as caught:
            await Registry(hosts).head(parse_reference("registry.test/org/app:prod"))

    assert caught.value.reason == "RedirectRefused"
    assert len(fake.requests) == 1


async def test_a_blob_redirect_to_another_origin_carries_nothing_of_ours(
    hosts: Hosts, login: Path, other: FakeRegistry
) -> None:
    with FakeRegistry(auth="bearer") as fake:
        published = fake.publish("org/app", "prod", FILES)
        other.blobs = fake.blobs
        fake.redirect(f"{other.url}/storage/{{digest}}?X-Signature=s", on="/blobs/")

        assert await blob(hosts, fake, published, login) == FILES["a.yaml"]

        [seen] = other.requests
        assert set(seen.headers) <= {"host", "accept", "accept-encoding", "user-agent", "connection"}
        assert other.secrets_seen == set()


async def test_a_challenge_of_the_storage_is_not_answered(
    hosts: Hosts, login: Path, fake: FakeRegistry, other: FakeRegistry
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.redirect(f"{other.url}/storage/{{digest}}", on="/blobs/")
    for challenge in ("Basic realm=x", f'Bearer realm="{other.url}/token"'):
        other.fail_next(401, {"WWW-Authenticate": challenge})

        with pytest.raises(RegistryError):
            await blob(hosts, fake, published, login)

    assert other.secrets_seen == fake.secrets_seen == set()
    assert other.count("/token") == 0


async def test_authorization_returns_with_the_registrys_own_origin(hosts: Hosts, login: Path) -> None:
    with FakeRegistry(auth="bearer") as fake:
        published = fake.publish("org/app", "prod", FILES)
        moved = f"/v2/org/app/blobs/{published.layers[0]}?moved=1"
        fake.redirect(moved, on="/blobs/", times=2)  # the first without a token does not get there

        assert await blob(hosts, fake, published, login) == FILES["a.yaml"]
        assert "authorization" in fake.requests[-1].headers


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "", "http://u:p@127.0.0.1/x"])
async def test_a_redirect_to_nowhere_is_refused(hosts: Hosts, fake: FakeRegistry, location: str) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.redirect(location, on="/blobs/")

    with pytest.raises(RegistryError) as caught:
        await blob(hosts, fake, published)

    assert caught.value.reason == "RedirectRefused"
    assert "u:p" not in str(caught.value)


async def test_a_redirect_loop_ends_after_ten(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.redirect("/v2/org/app/blobs/{digest}", on="/blobs/")

    with pytest.raises(RegistryError, match="more than 10 times"):
        await blob(hosts, fake, published)

    assert len(fake.requests) == 11


async def test_a_redirect_to_a_name_connects_to_the_address_that_was_checked(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    other.blobs = fake.blobs
    port = other.address.partition(":")[2]
    fake.redirect(f"http://localhost:{port}/storage/{{digest}}", on="/blobs/")

    assert await blob(hosts, fake, published) == FILES["a.yaml"]
    assert other.requests[0].headers["host"] == f"localhost:{port}"


async def test_a_warning_of_the_registry_is_said_once_and_cut(
    hosts: Hosts, fake: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    fake.publish("org/app", "prod", FILES)
    fake.rate_limit_headers = {"Warning": f'299 - "this tag goes away{" soon" * 300}"'}

    with caplog.at_level(logging.WARNING):
        await head(hosts, fake)
        await head(hosts, fake)

    [record] = caplog.records
    assert "this tag goes away" in record.getMessage()
    assert len(record.getMessage()) < 300


async def test_cookies_are_not_kept(hosts: Hosts, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", FILES)
    fake.fail_next(503, {"Set-Cookie": "session=1; Path=/"})

    await head(hosts, fake)
    await head(hosts, fake)

    assert all("cookie" not in seen.headers for seen in fake.requests)


@pytest.mark.parametrize("value", ["4", "880µs, allowed 44000/minute", "Sun, 01 Nov 2026 12:00:05 GMT"])
async def test_retry_after_is_obeyed_in_each_form(
    hosts: Hosts, fake: FakeRegistry, clock: FakeClock, value: str
) -> None:
    fake.publish("org/app", "prod", FILES)

    def answer() -> None:
        fake.fail_next(429, {"Retry-After": value}, code="TOOMANYREQUESTS")

    answer()
    await head(hosts, fake)

    assert sum(clock.slept) >= 1
    assert len(fake.requests) == 2


async def test_a_long_rest_is_told_at_once_and_nobody_asks_in_it(
    hosts: Hosts, fake: FakeRegistry, clock: FakeClock
) -> None:
    fake.publish("org/app", "prod", FILES)
    fake.fail_next(429, {"Retry-After": "200"})
    with pytest.raises(RegistryError) as caught:
        await head(hosts, fake)
    assert (caught.value.reason, caught.value.retry_after) == ("RateLimited", 200)

    with pytest.raises(RegistryError, match="asked for rest"):
        await head(hosts, fake)
    assert len(fake.requests) == 1

    clock.advance(200)
    await head(hosts, fake)


async def test_the_host_that_asked_for_rest_is_named_and_not_the_registry(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.redirect(f"{other.url}/storage/{{digest}}", on="/blobs/")
    other.fail_next(429, {"Retry-After": "200"})
    with pytest.raises(RegistryError, match=f"{other.address} answered 429"):
        await blob(hosts, fake, published)

    with pytest.raises(RegistryError, match=f"{other.address} asked for rest"):
        await blob(hosts, fake, published)


async def test_a_realm_that_asked_for_rest_is_named_and_not_the_registry(
    hosts: Hosts, login: Path, other: FakeRegistry
) -> None:
    with FakeRegistry(auth="bearer", realm=f"{other.url}/token") as fake:
        fake.publish("org/app", "prod", FILES)
        other.fail_next(429, {"Retry-After": "200"})
        with pytest.raises(RegistryError, match=f"{other.address} answered 429"):
            await head(hosts, fake, login)

        with pytest.raises(RegistryError, match=f"{other.address} asked for rest"):
            await head(hosts, fake, login)


async def test_what_a_registry_says_of_its_limit_is_kept_for_the_status(hosts: Hosts, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", FILES)
    fake.rate_limit_headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}

    await head(hosts, fake)

    limit = hosts.rate_limits()[fake.address]
    assert (limit.limit, limit.remaining, limit.window_seconds) == (100, 76, 21600)


async def test_requests_a_second_and_concurrency_are_kept(
    fake: FakeRegistry, transport: TransportName, clock: FakeClock
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    settings = {fake.address: HostSettings(requests_per_second=2, concurrency=1)}

    async with Hosts(settings, transport=transport, clock=clock) as hosts:
        await asyncio.gather(*(blob(hosts, fake, published) for _ in range(5)))

    assert sum(clock.slept) == pytest.approx(2.0)
    assert {seen.connection for seen in fake.requests} == {0}


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason", "says"),
    [
        (
            404,
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown tag"}]}',
            {},
            "NotFound",
            "MANIFEST_UNKNOWN: unknown tag",
        ),
        (403, b'{"errors":[{"code":"DENIED"}]}', {}, "Forbidden", "denied or does not exist"),
        (400, b"plain words\r\nof a proxy", {}, "RequestRefused", "plain words of a proxy"),
        (418, b"<html>", {"Content-Type": "text/html"}, "RequestRefused", "web page"),
        (500, b"\xff\x00" * 50_000, {}, "ServerFailure", "500"),
        (503, b"[" * 10_000, {}, "ServerFailure", "503"),
        (404, b'{"errors":[{"code":"X","message":"Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc"}]}', {}, "NotFound", "***"),
    ],
)
async def test_a_failure_says_stage_reference_host_status_and_code(
    hosts: Hosts, fake: FakeRegistry, status: int, body: bytes, headers: dict[str, str], reason: str, says: str
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.fail_next(status, headers, body=body, times=3)

    with pytest.raises(RegistryError) as caught:
        await Registry(hosts, None, RETRY).manifest(
            parse_reference(fake.reference("org/app", digest=published.digest)), Digest(published.digest)
        )

    error = caught.value
    assert error.reason == reason
    for fact in (
        says,
        fake.address,
        str(status),
        fake.reference("org/app", digest=published.digest),
        "reading the manifest",
    ):
        assert fact in str(error)
    assert len(str(error)) < 900
    assert "eyJ" not in str(error)


async def test_nobody_there_is_unreachable_and_tried_again(hosts: Hosts, clock: FakeClock) -> None:
    with FakeRegistry() as fake:
        reference = parse_reference(fake.reference("org/app"))

    with pytest.raises(RegistryError, match="cannot be reached") as caught:
        await Registry(hosts, None, RETRY).head(reference)

    assert caught.value.reason == "Unreachable"
    assert len(clock.slept) == RETRY.max_attempts - 1
