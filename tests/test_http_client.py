"""One HTTP exchange on each transport: bytes as they are, every wait bounded, TLS to who it should be."""

import asyncio
import base64
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from connector.http_client import HttpClient, HttpFailure, HttpOptions, TransportName, gunzip
from tests.certificates import self_signed
from tests.fakes.registry import FakeRegistry

pytestmark = [
    pytest.mark.parametrize("transport", ["aiohttp", "httpx"]),
    pytest.mark.filterwarnings("error::DeprecationWarning"),
]


@pytest_asyncio.fixture
async def client(transport: TransportName) -> AsyncIterator[HttpClient]:
    async with HttpClient(transport=transport) as opened:
        yield opened


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


async def get(client: HttpClient, url: str, limit: int = 1 << 20, address: str | None = None) -> bytes:
    async with await client.send("GET", url, {"Accept-Encoding": "identity"}, address=address) as response:
        return await response.body(limit)


async def test_only_what_was_given_goes_over_the_wire(client: HttpClient, fake: FakeRegistry) -> None:
    async with await client.send("POST", fake.url + "/x", {"X-Mine": "1"}, b"body") as response:
        assert response.status == 404

    [seen] = fake.requests
    assert set(seen.headers) <= {"host", "content-length", "x-mine", "connection"}
    assert seen.body == b"body"


@pytest.mark.parametrize("address", [None, "127.0.0.1"])
@pytest.mark.parametrize(
    "target",
    ["/", "/a%2Fb/%7Ec", "/a;b;/c+d?x=%2f%20+;:@!$'()*,=~&y=%zz&k", "/a/../b//c/./d?%41=%e4", '/a?"<>[]|^`{}\\'],
)
async def test_a_url_is_sent_byte_for_byte_so_that_its_signature_holds(
    client: HttpClient, fake: FakeRegistry, target: str, address: str | None
) -> None:
    async with await client.send("GET", fake.url + target, {}, address=address):
        pass

    assert [seen.target for seen in fake.requests] == [target]


async def test_a_pinned_name_that_is_part_of_the_scheme_is_replaced_as_a_host(
    client: HttpClient, fake: FakeRegistry
) -> None:
    port = fake.address.partition(":")[2]
    async with await client.send("GET", f"http://h:{port}/h:{port}", {}, address="127.0.0.1"):
        pass

    [seen] = fake.requests
    assert (seen.headers["host"], seen.target) == (f"h:{port}", f"/h:{port}")


@pytest.mark.parametrize("target", ["/a%2Fb/%7Ec?x=%2f%20+;", "/a b", "/a\r\nX: 1", "/é", "/a\x7f"])
async def test_through_a_proxy_a_url_is_sent_byte_for_byte_or_not_at_all(
    transport: TransportName, fake: FakeRegistry, target: str
) -> None:
    url = f"http://registry.invalid{target}"
    async with HttpClient(HttpOptions(proxy=fake.url), transport) as client:
        if "%2F" in target:
            await get(client, url)
        else:
            with pytest.raises(HttpFailure, match="URL"):
                await get(client, url)

    assert [seen.target for seen in fake.requests] == ([url] if "%2F" in target else [])


async def test_bodies_are_the_bytes_of_the_wire(client: HttpClient, fake: FakeRegistry) -> None:
    wire = gzip.compress(b"content")
    fake.fail_next(200, {"Content-Encoding": "gzip"}, body=wire)

    assert await get(client, fake.url) == wire


async def test_redirects_and_cookies_are_not_acted_on(client: HttpClient, fake: FakeRegistry) -> None:
    fake.fail_next(302, {"Location": "/elsewhere", "Set-Cookie": "a=b; Path=/"})

    async with await client.send("GET", fake.url, {}) as response:
        assert (response.status, response.header("location")) == (302, "/elsewhere")
    await get(client, fake.url)

    assert len(fake.requests) == 2
    assert "cookie" not in fake.requests[1].headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_connection_is_kept_when_the_body_was_read(client: HttpClient, fake: FakeRegistry, method: str) -> None:
    fake.publish("org/app", "prod", {"a": b"1"})
    for _ in range(4):
        async with await client.send(method, f"{fake.url}/v2/org/app/manifests/prod", {"Accept": "*"}) as response:
            if method == "GET":
                await response.body(10_000)

    assert {seen.connection for seen in fake.requests} == {0}


async def test_a_body_beyond_the_limit_is_not_read(client: HttpClient, fake: FakeRegistry) -> None:
    for chunked in (False, True):

        async def answer(request: web.BaseRequest, chunked: bool = chunked) -> web.StreamResponse:
            response = web.Response(body=b"x" * 2000)
            if chunked:
                response.enable_chunked_encoding()
            return response

        fake.answer(answer)
        with pytest.raises(HttpFailure) as caught:
            await get(client, fake.url, 1000)
        assert caught.value.kind == "too_large"


async def test_a_cut_body_is_a_failure_and_not_a_shorter_body(client: HttpClient, fake: FakeRegistry) -> None:
    fake.publish("org/app", "prod", {"a": b"1" * 1000})
    fake.cut_after(10, on="/")

    with pytest.raises(HttpFailure) as caught:
        await get(client, f"{fake.url}/storage/{next(digest for digest in fake.blobs)}")

    assert caught.value.kind == "cut"


async def test_nobody_there_is_a_failure_to_connect(client: HttpClient) -> None:
    with FakeRegistry() as fake:
        url = fake.url

    for target in (url, "http://nobody.invalid/"):
        with pytest.raises(HttpFailure) as caught:
            await get(client, target)
        assert caught.value.kind == "connect"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "nonsense", "http://127.0.0.1:99999/"])
async def test_what_is_no_http_url_is_a_failure(client: HttpClient, url: str) -> None:
    with pytest.raises(HttpFailure):
        await get(client, url)


async def test_a_header_that_cannot_be_sent_is_a_failure_and_sends_nothing(
    client: HttpClient, fake: FakeRegistry
) -> None:
    with pytest.raises(HttpFailure):
        await client.send("GET", fake.url, {"Authorization": "Bearer a\r\nX-Smuggled: 1"})

    assert fake.requests == []


async def test_silence_is_given_up(transport: TransportName) -> None:
    options = HttpOptions(silence_seconds=0.05, head_seconds=0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with HttpClient(options, transport) as client:
            with pytest.raises(HttpFailure) as caught:
                await get(client, f"http://127.0.0.1:{server.getsockname()[1]}/")

    assert caught.value.kind == "timeout"


async def test_a_body_that_drips_is_given_up(transport: TransportName) -> None:
    async with HttpClient(transport=transport, slow_window_seconds=0.1) as client:
        with FakeRegistry() as fake:
            fake.publish("org/app", "prod", {"a": b"1" * 10_000})
            fake.drip(10, 0.02, on="/storage/")

            with pytest.raises(HttpFailure) as caught:
                await get(client, f"{fake.url}/storage/{next(digest for digest in fake.blobs)}")

    assert caught.value.kind == "slow"


async def test_a_caller_that_reads_slowly_is_not_blamed(transport: TransportName) -> None:
    async with HttpClient(transport=transport, slow_window_seconds=0.05) as client:
        with FakeRegistry() as fake:
            published = fake.publish("org/app", "prod", {"a": b"1" * 200_000})
            async with await client.send("GET", f"{fake.url}/storage/{published.layers[0]}", {}) as response:
                size = 0
                async for chunk in response.chunks():
                    await asyncio.sleep(0.005)
                    size += len(chunk)

    assert size == 200_000


@pytest.mark.parametrize(
    "head",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x1b[31mred \x07\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"",
    ],
)
async def test_what_does_not_speak_http_is_a_failure(client: HttpClient, head: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        with pytest.raises(HttpFailure) as caught:
            await get(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert str(caught.value).isprintable()


# ---- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for the name registry.test, its key, and the same as authority and client."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder, "DNS:registry.test")
    return folder


def server_context(folder: Path, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    if mutual:
        context.load_verify_locations(folder / "cert.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_checked_address_keeps_the_name_in_certificate_and_host(
    transport: TransportName, authority: Path
) -> None:
    with FakeRegistry(tls=server_context(authority)) as fake:
        port = fake.address.partition(":")[2]
        async with HttpClient(HttpOptions(ca_file=authority / "cert.pem"), transport) as client:
            await get(client, f"https://registry.test:{port}/v2/", address="127.0.0.1")

            assert fake.requests[0].headers["host"] == f"registry.test:{port}"
            with pytest.raises(HttpFailure) as caught:  # another name at the same address, also on a kept connection
                await get(client, f"https://other.test:{port}/v2/", address="127.0.0.1")
            assert caught.value.kind == "tls"


async def test_a_certificate_nobody_vouches_for_is_refused(client: HttpClient, authority: Path) -> None:
    with FakeRegistry(tls=server_context(authority)) as fake, pytest.raises(HttpFailure) as caught:
        await get(client, f"https://registry.test:{fake.address.partition(':')[2]}/", address="127.0.0.1")

    assert caught.value.kind == "tls"
    assert fake.requests == []


async def test_a_client_certificate_is_shown_where_it_is_set(transport: TransportName, authority: Path) -> None:
    with FakeRegistry(tls=server_context(authority, mutual=True)) as fake:
        url = f"https://registry.test:{fake.address.partition(':')[2]}/v2/"
        ca, cert, key = authority / "cert.pem", authority / "cert.pem", authority / "key.pem"
        async with HttpClient(HttpOptions(ca_file=ca, client_cert=cert, client_key=key), transport) as client:
            await get(client, url, address="127.0.0.1")
        async with HttpClient(HttpOptions(ca_file=ca), transport) as client:
            with pytest.raises(HttpFailure):
                await get(client, url, address="127.0.0.1")

    assert len(fake.requests) == 1


async def test_a_ca_file_that_is_none_is_a_failure(transport: TransportName, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        async with HttpClient(HttpOptions(ca_file=path), transport) as client:
            with pytest.raises(HttpFailure):
                await get(client, "https://127.0.0.1:1/")


async def test_a_proxy_is_asked_for_everything(transport: TransportName, fake: FakeRegistry) -> None:
    async with HttpClient(HttpOptions(proxy=fake.url), transport) as client:
        await get(client, "http://registry.invalid/v2/")

    [seen] = fake.requests
    assert seen.headers["host"] == "registry.invalid"


async def test_the_login_of_a_proxy_is_for_the_proxy(transport: TransportName, fake: FakeRegistry) -> None:
    proxy = fake.url.replace("http://", "http://ci:a%40b@")
    async with HttpClient(HttpOptions(proxy=proxy), transport) as client:
        await get(client, "http://registry.invalid/v2/")

    [seen] = fake.requests
    assert seen.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"ci:a@b").decode()
    assert "authorization" not in seen.headers


async def test_the_login_of_a_proxy_goes_with_the_connect_of_a_tunnel(
    transport: TransportName, fake: FakeRegistry
) -> None:
    async with HttpClient(HttpOptions(proxy=fake.url.replace("http://", "http://ci:a%40b@")), transport) as client:
        with pytest.raises(HttpFailure):  # the fake builds no tunnels
            await get(client, "https://registry.invalid/v2/")

    [seen] = fake.requests
    assert (seen.method, seen.target) == ("CONNECT", "registry.invalid:443")
    assert seen.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"ci:a@b").decode()


def test_gunzip_takes_one_whole_stream_and_no_more(transport: TransportName) -> None:
    assert gunzip(gzip.compress(b"abc"), 3) == b"abc"
    for data in (b"", b"abc", gzip.compress(b"abc")[:-1], gzip.compress(b"abc") * 2, gzip.compress(b"abcd")):
        with pytest.raises(ValueError, match="gzip"):
            gunzip(data, 3)
