"""Resolving a tag and reading the manifest behind it, from registries that behave and that do not.

Every test runs on both transports.
"""

import asyncio
import gzip
import json
import logging
from pathlib import Path

import pytest
from aiohttp import web

from connector.errors import IntegrityError, LayerError, RegistryError
from connector.oci.digest import Digest, digest_of
from connector.oci.hosts import Hosts
from connector.oci.platform import parse_platform
from connector.oci.reference import Reference, parse_reference
from connector.oci.registry import Registry
from tests.fakes.clock import FakeClock
from tests.fakes.registry import INDEX, MANIFEST, FakeRegistry, Layer, Published
from tests.oci.conftest import RETRY

FILES = {"a.yaml": b"a: 1\n"}
LINUX, ARM = {"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}


def reference(fake: FakeRegistry) -> Reference:
    return parse_reference(fake.reference("org/app"))


async def pull(hosts: Hosts, fake: FakeRegistry, published: Published, platform: str | None = None) -> Digest:
    registry = Registry(hosts, None, RETRY)
    wish = parse_platform(platform) if platform else None
    return (await registry.manifest(reference(fake), Digest(published.digest), wish)).manifest.digest


async def test_head_tells_digest_type_and_size(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish("org/app", "prod", FILES)

    head = await Registry(hosts).head(reference(fake))

    assert (head.digest, head.media_type, head.size_bytes) == (published.digest, MANIFEST, published.size_bytes)


async def test_the_manifest_is_asked_for_by_digest_so_a_moved_tag_mixes_nothing(
    hosts: Hosts, fake: FakeRegistry
) -> None:
    first = fake.publish("org/app", "prod", FILES)
    registry = Registry(hosts)
    head = await registry.head(reference(fake))
    fake.publish("org/app", "prod", {"b.yaml": b"b"})

    pulled = await registry.manifest(reference(fake), head.digest)

    assert (pulled.artifact_digest, pulled.manifest.digest, pulled.from_index) == (first.digest, first.digest, False)
    assert fake.requests[-1].path.endswith(first.digest)


async def test_a_digest_that_vanishes_between_head_and_get_is_a_moved_tag(hosts: Hosts, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", FILES)
    registry = Registry(hosts, None, RETRY)
    head = await registry.head(reference(fake))
    fake.fail_next(404, on="GET ", times=100)

    with pytest.raises(RegistryError) as caught:
        await registry.manifest(reference(fake), head.digest)

    assert (caught.value.reason, caught.value.transient) == ("TagMoved", True)
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET", "HEAD", "GET"]


async def test_a_tag_that_is_deleted_between_head_and_get_is_not_found(hosts: Hosts, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", FILES)
    registry = Registry(hosts, None, RETRY)
    head = await registry.head(reference(fake))
    fake.repositories["org/app"].clear()

    with pytest.raises(RegistryError, match="404") as caught:
        await registry.manifest(reference(fake), head.digest)

    assert caught.value.reason == "NotFound"


async def test_a_tag_that_moved_between_head_and_get_is_resolved_once_more(hosts: Hosts, fake: FakeRegistry) -> None:
    registry = Registry(hosts, None, RETRY)
    fake.publish("org/app", "prod", FILES)
    head = await registry.head(reference(fake))
    fake.repositories["org/app"].clear()
    fresh = fake.publish("org/app", "prod", {"b.yaml": b"b"})

    pulled = await registry.manifest(reference(fake), head.digest)

    assert pulled.artifact_digest == pulled.manifest.digest == fresh.digest


async def test_a_configured_digest_is_what_it_says_whatever_the_header_claims(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish("org/app", None, FILES)
    pinned = parse_reference(fake.reference("org/app", digest=published.digest))

    assert (await Registry(hosts).head(pinned)).digest == published.digest


@pytest.mark.parametrize(
    "header", [None, "", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + "A" * 64]
)
async def test_without_a_usable_digest_header_the_body_is_hashed_and_not_read_twice(
    hosts: Hosts, fake: FakeRegistry, header: str | None
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.digest_header = False

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Type": MANIFEST} | ({"Docker-Content-Digest": header} if header is not None else {})
        return web.Response(body=published.body, headers=headers)

    fake.answer(answer, on="HEAD")
    registry = Registry(hosts)

    head = await registry.head(reference(fake))
    pulled = await registry.manifest(reference(fake), head.digest)

    assert head.digest == pulled.manifest.digest == published.digest
    assert [seen.method for seen in fake.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [405, 501])
async def test_a_registry_without_head_is_asked_by_get(hosts: Hosts, fake: FakeRegistry, status: int) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.fail_next(status, on="HEAD")

    assert (await Registry(hosts).head(reference(fake))).digest == published.digest


@pytest.mark.parametrize(("status", "reason"), [(404, "NotFound"), (401, "Unauthorized"), (403, "Forbidden")])
async def test_a_refused_head_costs_no_second_request(
    hosts: Hosts, fake: FakeRegistry, status: int, reason: str
) -> None:
    fake.publish("org/app", "prod", FILES)
    fake.fail_next(status, on="HEAD")

    with pytest.raises(RegistryError) as caught:
        await Registry(hosts, None, RETRY).head(reference(fake))

    assert caught.value.reason == reason
    assert len(fake.requests) == 1


async def test_all_manifest_types_are_accepted_and_nothing_is_to_be_encoded(hosts: Hosts, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", FILES)

    await Registry(hosts).head(reference(fake))

    [seen] = fake.requests
    assert seen.headers["accept-encoding"] == "identity"
    for kind in ("oci.image.manifest.v1", "oci.image.index.v1", "distribution.manifest.v2", "manifest.list.v2"):
        assert kind in seen.headers["accept"]
    assert "manifest.v1+" not in seen.headers["accept"].replace("image.manifest.v1+", "")


async def test_a_manifest_that_hashes_to_something_else_is_asked_for_once_more_then_refused(
    hosts: Hosts, fake: FakeRegistry
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.manifests[published.digest] = (published.body + b" ", MANIFEST)

    with pytest.raises(IntegrityError) as caught:
        await pull(hosts, fake, published)

    assert caught.value.reason == "DigestMismatch"
    assert len(fake.requests) == 2


async def test_sha512_is_checked_too(hosts: Hosts, fake: FakeRegistry) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}).encode()
    published = fake.publish_manifest("org/app", "prod", body, MANIFEST, digest=digest_of(body, "sha512"))

    assert await pull(hosts, fake, published) == published.digest


async def test_a_manifest_that_is_compressed_against_our_wish_is_still_the_manifest(
    hosts: Hosts, fake: FakeRegistry
) -> None:
    published = fake.publish("org/app", "prod", FILES)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Type": MANIFEST, "Content-Encoding": "gzip"}
        return web.Response(body=gzip.compress(published.body), headers=headers)

    fake.answer(answer)

    assert await pull(hosts, fake, published) == published.digest


async def test_an_endless_manifest_is_cut(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.manifests[published.digest] = (b" " * ((4 << 20) + 1), MANIFEST)

    with pytest.raises(RegistryError) as caught:
        await pull(hosts, fake, published)

    assert caught.value.reason == "ManifestTooLarge"


@pytest.mark.parametrize("status", [200, 204, 206, 304])
async def test_a_success_without_a_manifest_is_no_registry(hosts: Hosts, fake: FakeRegistry, status: int) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.fail_next(status, on="GET", times=3)

    with pytest.raises(RegistryError) as caught:
        await pull(hosts, fake, published)

    assert (caught.value.reason, caught.value.transient) == ("NotARegistry", True)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_login_page_is_no_registry(hosts: Hosts, fake: FakeRegistry, method: str) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.fail_next(200, {"Content-Type": "text/html; charset=utf-8"}, body=b"<html>log in", on=method, times=3)

    registry = Registry(hosts, None, RETRY)
    with pytest.raises(RegistryError, match="web page") as caught:  # noqa: PT012 - one call, of two
        if method == "HEAD":
            await registry.head(reference(fake))
        else:
            await registry.manifest(reference(fake), Digest(published.digest))

    assert caught.value.reason == "NotARegistry"


async def test_a_manifest_redirected_to_a_web_page_says_that_we_were_sent_off_site(
    hosts: Hosts, fake: FakeRegistry, other: FakeRegistry
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.redirect(f"{other.url}/-/v2/packages", on="/manifests/")
    other.fail_next(200, {"Content-Type": "text/html"}, body=b"<html>", times=3)

    with pytest.raises(RegistryError, match="off-site") as caught:
        await pull(hosts, fake, published)

    assert caught.value.transient


async def test_an_index_is_resolved_for_the_platform(hosts: Hosts, fake: FakeRegistry) -> None:
    amd = fake.publish("org/app", None, FILES)
    arm = fake.publish("org/app", None, {"a.yaml": b"arm"})
    index = fake.publish_index("org/app", "prod", [(amd, LINUX), (arm, ARM)])

    pulled = await Registry(hosts).manifest(reference(fake), Digest(index.digest), parse_platform("linux/arm64"))

    assert (pulled.artifact_digest, pulled.manifest.digest, pulled.from_index, pulled.media_type) == (
        index.digest, arm.digest, True, INDEX,
    )  # fmt: skip


async def test_an_index_of_several_without_a_platform_says_what_there_is(hosts: Hosts, fake: FakeRegistry) -> None:
    amd = fake.publish("org/app", None, FILES)
    arm = fake.publish("org/app", None, {"a.yaml": b"arm"})
    index = fake.publish_index("org/app", "prod", [(amd, LINUX), (arm, ARM)])

    with pytest.raises(RegistryError, match=r"linux/amd64, linux/arm64") as caught:
        await pull(hosts, fake, index)

    assert caught.value.reason == "PlatformMissing"


async def test_an_image_that_its_index_lists_and_the_registry_lacks_is_the_publishers_matter(
    hosts: Hosts, fake: FakeRegistry
) -> None:
    image = fake.publish("org/app", None, FILES)
    index = fake.publish_index("org/app", "prod", [(image, LINUX)])
    fake.repositories["org/app"].remove(image.digest)

    with pytest.raises(RegistryError, match=r"which .* does not have") as caught:
        await pull(hosts, fake, index)

    assert (caught.value.reason, caught.value.transient) == ("NotFound", False)


async def test_indexes_may_be_nested_three_deep_and_no_deeper(hosts: Hosts, fake: FakeRegistry) -> None:
    image = fake.publish("org/app", None, FILES)
    nested = image
    for _ in range(3):
        nested = fake.publish_index("org/app", "prod", [(nested, None)])
    assert await pull(hosts, fake, nested) == image.digest

    deeper = fake.publish_index("org/app", "prod", [(nested, None)])
    with pytest.raises(RegistryError, match="3 deep"):
        await pull(hosts, fake, deeper)


async def test_too_many_layers_are_refused_before_the_first_blob(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish_layers("org/app", "prod", [Layer(b"x", "text/plain")] * 11)

    with pytest.raises(LayerError, match="11 layers") as caught:
        await Registry(hosts, max_layers=10).manifest(reference(fake), Digest(published.digest))

    assert caught.value.reason == "TooLarge"
    assert fake.count("/blobs/") == 0


async def test_a_digest_that_the_bytes_do_not_have_is_logged_once_and_the_bytes_count(
    hosts: Hosts, fake: FakeRegistry, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    wrong = digest_of(b"something else")
    fake.fail_next(405, on="HEAD ", times=2)
    for _ in range(2):
        headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": wrong}
        fake.fail_next(200, headers, body=published.body, on="GET ")

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            clock.advance(1)
            assert (await Registry(hosts).head(reference(fake))).digest == published.digest

    [record] = caplog.records
    assert wrong in record.getMessage()
    assert published.digest in record.getMessage()
    assert fake.address in record.getMessage()


async def test_a_digest_of_head_that_the_bytes_do_not_have_is_logged_and_refused(
    hosts: Hosts, fake: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    wrong = digest_of(b"something else")
    fake.fail_next(200, {"Content-Type": MANIFEST, "Docker-Content-Digest": wrong}, on="HEAD ")
    fake.fail_next(
        200, {"Content-Type": MANIFEST}, body=published.body, on=f"GET /v2/org/app/manifests/{wrong}", times=9
    )
    registry = Registry(hosts, None, RETRY)
    head = await registry.head(reference(fake))

    with caplog.at_level(logging.INFO), pytest.raises(IntegrityError, match=published.digest) as caught:
        await registry.manifest(reference(fake), head.digest)

    assert caught.value.reason == "DigestMismatch"
    assert any(published.digest in record.getMessage() for record in caplog.records)


async def test_two_flows_with_one_reference_share_one_head(hosts: Hosts, fake: FakeRegistry, login: Path) -> None:
    published = fake.publish("org/app", "prod", FILES)
    one, other, with_login = Registry(hosts), Registry(hosts), Registry(hosts, login)

    heads = await asyncio.gather(*(registry.head(reference(fake)) for registry in (one, other, with_login)))

    assert {head.digest for head in heads} == {published.digest}
    assert fake.count("HEAD ") == 2  # who has other credentials may see another thing


async def test_the_config_is_never_fetched(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish(
        "org/app", "prod", FILES, config={"mediaType": "x/y", "digest": "sha256:" + "0" * 64, "size": 9}
    )

    await pull(hosts, fake, published)

    assert len(fake.requests) == 1


async def test_a_registry_in_trouble_is_asked_again_and_the_tick_goes_on(
    hosts: Hosts, fake: FakeRegistry, clock: FakeClock
) -> None:
    published = fake.publish("org/app", "prod", FILES)
    fake.fail_next(503)
    fake.cut_after(5, on="/manifests/")

    assert await pull(hosts, fake, published) == published.digest
    assert len(clock.slept) == 2
    assert 0.5 <= clock.slept[0] <= 1 <= clock.slept[1] <= 2
