"""Hosts: whose settings count where, proxies of the environment, addresses."""

import asyncio
import ssl
from pathlib import Path

import pytest

from connector.errors import RegistryError
from connector.http_client import TransportName
from connector.oci.hosts import Hosts, HostSettings
from connector.oci.pace import MOST, START
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.oci.retry import RetryPolicy
from connector.oci.trust import origin_of
from tests.certificates import self_signed
from tests.fakes.registry import FakeRegistry


async def test_the_settings_of_docker_hub_count_for_its_api_host() -> None:
    async with Hosts({"docker.io": HostSettings(concurrency=3)}) as hosts:
        assert hosts.settings(parse_reference("alpine").api_host).concurrency == 3


@pytest.mark.parametrize(
    ("name", "asked", "url"),
    [
        ("registry.example.com", "registry.example.com:443", "https://registry.example.com"),
        ("registry.example.com:443", "registry.example.com", "https://registry.example.com"),
        ("registry.example.com:443", "registry.example.com:443", "https://registry.example.com"),
        ("Registry.Example.com", "registry.example.com", "https://registry.example.com/v2/"),
        ("docker.io:443", "registry-1.docker.io", "https://registry-1.docker.io"),
        ("[2001:db8::1]", "[2001:db8::1]:443", "https://[2001:db8::1]"),
    ],
)
async def test_settings_count_with_and_without_the_default_port(name: str, asked: str, url: str) -> None:
    async with Hosts({name: HostSettings(concurrency=3)}) as hosts:
        assert hosts.settings(asked).concurrency == 3
        assert hosts.host(hosts.origin(asked)).settings.concurrency == 3
        assert hosts.host(origin_of(url)).settings.concurrency == 3


async def test_settings_of_plain_http_count_with_and_without_port_80() -> None:
    for name, asked in (("plain.example", "plain.example:80"), ("plain.example:80", "plain.example")):
        async with Hosts({name: HostSettings(plain_http=True, concurrency=3)}) as hosts:
            assert hosts.origin(asked) == origin_of("http://plain.example")
            assert hosts.host(hosts.origin(asked)).settings.concurrency == 3


async def test_settings_of_one_port_do_not_count_for_another() -> None:
    settings = {
        "r.example": HostSettings(concurrency=1),
        "r.example:8443": HostSettings(concurrency=2),
        "r.example:80": HostSettings(plain_http=True, concurrency=3),
    }

    async with Hosts(settings) as hosts:
        counts = [hosts.settings(asked).concurrency for asked in ("r.example", "r.example:8443", "r.example:5000")]
        assert counts == [1, 2, None]
        assert hosts.host(hosts.origin("r.example:80")).settings.concurrency == 3


@pytest.mark.parametrize(
    ("api_host", "url"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("registry.example.com", "https://registry.example.com"),
        ("registry.example.com:8443", "https://registry.example.com:8443"),
        ("plain.example.com", "http://plain.example.com"),
        ("localhost.evil.example", "https://localhost.evil.example"),
    ],
)
async def test_the_scheme_follows_the_rule_for_plain_http(api_host: str, url: str) -> None:
    async with Hosts({"plain.example.com": HostSettings(plain_http=True)}) as hosts:
        origin = hosts.origin(api_host)

    assert f"{origin.scheme}://{origin.authority}" == url


async def test_a_proxy_of_one_registry_is_not_used_for_another(fake: FakeRegistry, other: FakeRegistry) -> None:
    settings = {"proxied.test": HostSettings(proxy=other.url, plain_http=True)}
    fake.publish("org/app", "prod", {"a": b"1"})
    other.publish("org/app", "prod", {"a": b"1"})

    async with Hosts(settings) as hosts:
        await Registry(hosts).head(parse_reference("proxied.test/org/app:prod"))
        await Registry(hosts).head(parse_reference(fake.reference("org/app")))

    assert [seen.headers["host"] for seen in other.requests] == ["proxied.test"]
    assert len(fake.requests) == 1


async def test_the_environments_proxy_is_used_but_never_for_loopback(
    fake: FakeRegistry, other: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", other.url)
    fake.publish("org/app", "prod", {"a": b"1"})
    other.publish("org/app", "prod", {"a": b"1"})

    async with Hosts({"proxied.test": HostSettings(plain_http=True)}) as hosts:
        await Registry(hosts).head(parse_reference("proxied.test/org/app:prod"))
        await Registry(hosts).head(parse_reference(fake.reference("org/app")))

    assert len(other.requests) == len(fake.requests) == 1


async def test_addresses_are_all_that_a_name_resolves_to_and_odd_spellings_are_read() -> None:
    async with Hosts() as hosts:
        assert "127.0.0.1" in await hosts.addresses(origin_of("http://localhost:1"))
        assert await hosts.addresses(origin_of("http://0x7f.1:1")) == ("127.0.0.1",)
        assert await hosts.addresses(origin_of("http://[::1]:1")) == ("::1",)
        with pytest.raises(OSError, match=r".+"):
            await hosts.addresses(origin_of("http://nobody.invalid"))


async def test_what_is_held_for_hosts_does_not_grow_for_ever() -> None:
    async with Hosts() as hosts:
        for number in range(700):
            hosts.host(origin_of(f"http://h{number}.example"))

        assert len(hosts._hosts) <= 500


async def test_at_most_as_many_exchanges_are_open_as_the_setting_says(fake: FakeRegistry) -> None:
    settings = {fake.address: HostSettings(concurrency=2)}
    published = fake.publish("org/app", "prod", {"a": b"1"})
    async with Hosts(settings) as hosts:
        host = hosts.host(origin_of(fake.url))
        url = f"{fake.url}/storage/{published.layers[0]}"
        first, second = await host.send("GET", url, {}), await host.send("GET", url, {})

        third = asyncio.ensure_future(host.send("GET", url, {}))
        await asyncio.sleep(0)
        assert not third.done()
        await first.aclose()
        await second.aclose()
        await (await third).aclose()


async def test_the_ca_file_of_a_registry_is_trusted_for_it_and_for_no_other(
    tmp_path: Path, transport: TransportName
) -> None:
    self_signed(tmp_path, "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with FakeRegistry(tls=context) as ours, FakeRegistry(tls=context) as stranger:
        published = ours.publish("org/app", "prod", {"a": b"1"})
        settings = {
            ours.address: HostSettings(plain_http=False, ca_file=tmp_path / "cert.pem"),
            stranger.address: HostSettings(plain_http=False),
        }

        async with Hosts(settings, transport=transport, environment_proxies=False) as hosts:
            registry = Registry(hosts, None, RetryPolicy(max_attempts=1))
            head = await registry.head(parse_reference(ours.reference("org/app")))
            with pytest.raises(RegistryError, match="ca_file") as caught:
                await registry.head(parse_reference(stranger.reference("org/app")))

    assert head.digest == published.digest
    assert (caught.value.reason, caught.value.transient) == ("Unreachable", False)
    assert stranger.requests == []


@pytest.mark.parametrize("status", [429, 503])
async def test_exchanges_grow_with_a_far_registry_and_not_after_it_said_too_much(
    fake: FakeRegistry, status: int
) -> None:
    published = fake.publish("org/app", "prod", {f"f{number}": b"%d" % number for number in range(300)})
    open_now, most = 0, 0

    async def far(hosts: Hosts, digest: str) -> None:
        nonlocal open_now, most
        host = hosts.host(origin_of(fake.url))
        response = await host.send("GET", f"{fake.url}/storage/{digest}", {})
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.1)  # as a round trip would take, which nothing that runs at once makes longer
        open_now -= 1
        await response.aclose()

    async with Hosts() as hosts:
        await asyncio.gather(*(far(hosts, digest) for digest in published.layers))
        grown, most = most, 0
        fake.fail_next(status, on="/storage/", times=1)
        await far(hosts, published.layers[0])
        await asyncio.gather(*(far(hosts, digest) for digest in published.layers[:100]))

    assert START < grown <= MOST
    assert most == START
