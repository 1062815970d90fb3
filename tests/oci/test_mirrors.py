"""A registry with mirrors: they serve what a digest names, and can neither age a release nor spoil or learn one.

Every test runs on both transports. `fake` is the registry, `other` its mirror.
"""

import json
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from connector.http_client import TransportName
from connector.oci.blob import Blobs
from connector.oci.hosts import Hosts, HostSettings
from connector.oci.mirrors import Mirror, parse_mirror
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.oci.spool import SMALL_BYTES
from tests.fakes.clock import FakeClock
from tests.fakes.registry import PASSWORD, FakeRegistry
from tests.oci.conftest import RETRY

FILES = {"a.yaml": b"a: 1\n", "large.bin": random.Random(3).randbytes(2 * SMALL_BYTES)}


@pytest_asyncio.fixture
async def hosts(
    transport: TransportName, clock: FakeClock, fake: FakeRegistry, other: FakeRegistry
) -> AsyncIterator[Hosts]:
    """Hosts of a registry with one mirror, whose repositories stand below `cache/hub`."""
    settings = {fake.address: HostSettings(mirrors=(Mirror(other.address, "cache/hub"),))}
    async with Hosts(settings, transport=transport, clock=clock, environment_proxies=False) as opened:
        yield opened


async def pulled(hosts: Hosts, fake: FakeRegistry, credentials: Path | None = None) -> list[bytes]:
    """The contents of what the tag names now, as a tick fetches them."""
    registry, reference = Registry(hosts, credentials, RETRY), parse_reference(fake.reference("org/app"))
    head = await registry.head(reference)
    layers = (await registry.manifest(reference, head.digest)).manifest.layers
    blobs = await Blobs(registry).fetch(reference, layers)
    return [blobs[layer.digest].read() for layer in layers]


def publish(*registries: FakeRegistry, files: dict[str, bytes] = FILES) -> None:
    for registry, repository in zip(registries, ["org/app", "cache/hub/org/app"], strict=False):
        registry.publish(repository, "prod", files)


async def test_the_registry_is_asked_for_its_tag_and_the_mirror_for_all_the_rest(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    publish(fake, other)

    assert await pulled(hosts, fake) == list(FILES.values())

    assert [seen.method for seen in fake.requests] == ["HEAD"]
    assert {seen.path.partition("?")[2] for seen in other.requests} == {f"ns={fake.address.replace(':', '%3A')}"}
    assert other.count("HEAD ") == 0


async def test_a_mirror_that_lags_behind_brings_no_older_release(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    publish(fake, other, files={"a.yaml": b"old"})
    publish(fake, files={"a.yaml": b"new"})

    assert await pulled(hosts, fake) == [b"new"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_mirror_that_fails_is_left_alone_for_a_while_and_said_once(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    publish(fake, other)
    other.fail_next(503, times=3)

    assert await pulled(hosts, fake) == list(FILES.values())
    asked = len(other.requests)
    assert await pulled(hosts, fake) == list(FILES.values())
    assert len(other.requests) == asked == 1
    (said,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"mirror {other.address}/cache/hub of {fake.address} is left alone for 60 s" in said

    clock.advance(61)
    await pulled(hosts, fake)
    clock.advance(61)  # the second rest is a longer one
    await pulled(hosts, fake)
    assert len(other.requests) == 2

    other.heal()
    clock.advance(60)
    already = len(fake.requests)
    assert await pulled(hosts, fake) == list(FILES.values())
    assert [seen.method for seen in fake.requests[already:]] == ["HEAD"]


async def test_a_mirror_that_cannot_be_reached_costs_no_attempt(
    transport: TransportName, clock: FakeClock, fake: FakeRegistry
) -> None:
    publish(fake)
    settings = {fake.address: HostSettings(mirrors=(Mirror("127.0.0.1:1"), Mirror("127.0.0.1:2")))}
    async with Hosts(settings, transport=transport, clock=clock, environment_proxies=False) as hosts:
        assert await pulled(hosts, fake) == list(FILES.values())


@pytest.mark.parametrize("name", FILES)
async def test_bytes_that_are_not_the_digests_are_never_taken_from_a_mirror(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry, name: str
) -> None:
    publish(fake, other)
    [digest] = [digest for digest, data in other.blobs.items() if data == FILES[name]]
    other.blobs[digest] = bytes(len(FILES[name]))

    assert await pulled(hosts, fake) == list(FILES.values())


async def test_what_a_mirror_sent_before_it_broke_off_is_not_gone_on_with(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    publish(fake, other)
    [digest] = [digest for digest, data in other.blobs.items() if data == FILES["large.bin"]]
    other.blobs[digest] = bytes(len(FILES["large.bin"]))
    other.cut_after(SMALL_BYTES, on=digest)

    assert await pulled(hosts, fake) == list(FILES.values())

    asked = [seen for seen in fake.requests if digest in seen.path]
    assert ["range" in seen.headers for seen in asked] == [False]


async def test_a_login_goes_to_no_mirror_that_it_is_not_for(
    transport: TransportName, clock: FakeClock, login: Path, tmp_path: Path
) -> None:
    docker = tmp_path / "docker.json"
    with FakeRegistry(auth="basic") as registry, FakeRegistry(auth="basic", users={"reader": "mirror-pass"}) as mirror:
        publish(registry, mirror)
        settings = {registry.address: HostSettings(mirrors=(Mirror(mirror.address, "cache/hub"),))}
        auths = {
            registry.address: {"username": "ci", "password": PASSWORD},
            mirror.address: {"username": "reader", "password": "mirror-pass"},
        }
        docker.write_text(json.dumps({"auths": auths}))
        async with Hosts(settings, transport=transport, clock=clock, environment_proxies=False) as hosts:
            assert await pulled(hosts, registry, login) == list(FILES.values())
            assert all("authorization" not in seen.headers for seen in mirror.requests)
            clock.advance(100)
            already = len(registry.requests)

            assert await pulled(hosts, registry, docker) == list(FILES.values())

            assert {seen.method for seen in registry.requests[already:]} == {"HEAD"}
        sent = {seen.headers.get("authorization") for seen in mirror.requests} - {None}
        assert len(sent) == 1


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("mirror.example:5000", Mirror("mirror.example:5000")),
        ("mirror.example/", Mirror("mirror.example")),
        ("Harbor.example/proxy/hub", Mirror("harbor.example", "proxy/hub")),
    ],
)
def test_a_mirror_is_a_host_and_what_stands_before_the_repository(text: str, mirror: Mirror) -> None:
    assert parse_mirror(text) == mirror


@pytest.mark.parametrize("text", ["", "https://mirror.example", "mirror.example/UPPER", "a b"])
def test_what_is_no_mirror_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_mirror(text)
