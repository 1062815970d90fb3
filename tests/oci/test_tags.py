"""Listing tags: every page, and never more than there can be."""

import asyncio
import logging

import pytest
from aiohttp import web

from connector.errors import RegistryError
from connector.oci.hosts import Hosts
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.oci.tags import list_tags
from tests.fakes.registry import FakeRegistry
from tests.oci.conftest import RETRY


async def tags(hosts: Hosts, fake: FakeRegistry) -> tuple[str, ...]:
    return await list_tags(Registry(hosts, None, RETRY), parse_reference(fake.reference("org/app")))


async def test_all_pages_are_read(hosts: Hosts, fake: FakeRegistry) -> None:
    published = fake.publish("org/app", "v00", {"a": b"1"})
    for number in range(1, 25):
        fake.move_tag("org/app", f"v{number:02}", published.digest)
    fake.tag_page_size = 10

    assert await tags(hosts, fake) == tuple(f"v{number:02}" for number in range(25))
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    "link", ["https://elsewhere.example/v2/org/app/tags/list?last=v1", "/v2/other/tags/list", "/api/tags?page=2"]
)
async def test_a_link_that_leads_elsewhere_is_not_followed(hosts: Hosts, fake: FakeRegistry, link: str) -> None:
    fake.publish("org/app", "v2", {"a": b"1"})

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"tags": ["v1"]}, headers={"Link": f'<{link}>; rel="next"'})

    fake.answer(answer)

    assert await tags(hosts, fake) == ("v1", "v2")
    assert fake.requests[1].path == "/v2/org/app/tags/list?n=1000&last=v1"


async def test_a_page_that_links_to_itself_ends_the_list(hosts: Hosts, fake: FakeRegistry) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"tags": ["v1"]}, headers={"Link": f'<{request.path_qs}>; rel="next"'})

    fake.answer(answer, times=50)

    assert await tags(hosts, fake) == ("v1",)
    assert len(fake.requests) == 2


@pytest.mark.parametrize(("page_size", "pages", "count"), [(1000, 100, 100_000), (10, 200, 2_000)])
async def test_a_list_without_end_is_cut_at_100_000_tags_or_200_pages_within_seconds(
    fake: FakeRegistry, page_size: int, pages: int, count: int
) -> None:
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        page = [f"v{number}" for number in range(sent, sent + page_size)]
        sent += page_size
        link = f'<{request.path}?n={page_size}&last={page[-1]}>; rel="next"'
        return web.json_response({"tags": page}, headers={"Link": link})

    fake.answer(answer, times=1000)

    async with Hosts(environment_proxies=False) as hosts, asyncio.timeout(20):
        found = await tags(hosts, fake)

    assert len(found) == count
    assert len(fake.requests) == pages


async def test_no_tags_may_be_null_and_odd_ones_are_left_out(
    hosts: Hosts, fake: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fail_next(200, body=b'{"tags": null}')
    assert await tags(hosts, fake) == ()

    fake.fail_next(200, body=b'{"tags": ["a", "a", "../b", "c d", "-x"]}')
    with caplog.at_level(logging.WARNING):
        assert await tags(hosts, fake) == ("a",)
    assert "3 tags" in caplog.text


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"tags": {}}', b'{"tags": [1]}', b'{"tags":["a"],"tags":["b"]}'])
async def test_what_is_no_list_is_an_error(hosts: Hosts, fake: FakeRegistry, body: bytes) -> None:
    fake.fail_next(200, body=body, times=3)

    with pytest.raises(RegistryError, match="no list of tags"):
        await tags(hosts, fake)
