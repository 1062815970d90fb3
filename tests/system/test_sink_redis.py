"""The Redis store on a real server."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from connector.errors import SinkError
from connector.sink.parts import Parts
from connector.sink.store import Store
from connector.sink.tasks import redis_store
from tests.certificates import self_signed
from tests.skipping import or_skip
from tests.suites.store import ConditionalStoreSuite
from tests.system.servers import find_program
from tools.stack.ports import free_ports

pytestmark = pytest.mark.system

PASSWORD = "only-for-this-test"


@contextmanager
def _server(folder: Path, *options: str) -> Iterator[None]:
    """A Redis of this module alone, once it is ready."""
    with or_skip():
        program = find_program("redis-server")
    server = subprocess.Popen(
        [program, "--bind", "127.0.0.1", "--save", "", "--requirepass", PASSWORD, *options],
        cwd=folder, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    for line in server.stdout:
        if "Ready to accept connections" in line:
            break
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    (number,) = free_ports(1)
    with _server(tmp_path_factory.mktemp("redis"), "--port", str(number)):
        yield number


def _store(
    port: int, folder: Path, password: str = PASSWORD, scheme: str = "redis", ca_file: Path | None = None
) -> Store:
    path = folder / "redis.json"
    path.write_text(json.dumps({"password": password}))
    url = f"{scheme}://127.0.0.1:{port}/0"
    fields = redis_store.Fields(name="r", url=url, credentials_path=path, ca_file=ca_file)
    return redis_store.build(fields, Parts("f"))


@pytest.fixture
async def store(port: int, tmp_path: Path) -> AsyncIterator[Store]:
    store = _store(port, tmp_path)
    yield store
    for key, entry in (await store.list("")).items():
        await store.delete(key, entry)
    await store.close()


class TestRedisStore(ConditionalStoreSuite):
    pass


async def test_a_prefix_is_no_pattern(store: Store) -> None:
    await store.put("a*b", b"1", None)
    await store.put("axb", b"1", None)

    assert await store.keys("a*") == {"a*b"}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server that speaks TLS only, and the certificate that it shows, its own authority."""
    folder = tmp_path_factory.mktemp("redis-tls")
    self_signed(folder, "IP:127.0.0.1")
    (number,) = free_ports(1)
    tls_only = ("--port", "0", "--tls-port", str(number), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "cert.pem")
    with _server(folder, *tls_only, *files):
        yield number, folder / "cert.pem"


async def test_tls_with_an_authority_of_its_own(tls: tuple[int, Path], tmp_path: Path) -> None:
    port, certificate = tls
    store = _store(port, tmp_path, scheme="rediss", ca_file=certificate)

    await store.put("a", b"1", None)

    assert {key: entry.value for key, entry in (await store.list("")).items()} == {"a": b"1"}
    await store.close()


async def test_a_certificate_of_nobody_we_trust_is_refused(tls: tuple[int, Path], tmp_path: Path) -> None:
    store = _store(tls[0], tmp_path, scheme="rediss")

    with pytest.raises(SinkError, match=r"(?i)certificate") as caught:
        await store.list("")

    assert caught.value.reason == "StoreUnreachable"
    await store.close()


def test_an_authority_without_tls_is_a_mistake_and_not_a_connection_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="rediss://"):
        _store(1, tmp_path, ca_file=tmp_path / "ca.pem")


async def test_a_wrong_password_is_permanent_and_not_told(port: int, tmp_path: Path) -> None:
    store = _store(port, tmp_path, password="hunter2hunter2")

    with pytest.raises(SinkError) as caught:
        await store.list("")

    assert (caught.value.reason, caught.value.transient) == ("StoreRefused", False)
    assert "hunter2" not in str(caught.value)


async def test_no_server_is_transient(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    number = server.sockets[0].getsockname()[1]
    server.close()

    with pytest.raises(SinkError) as caught:
        await _store(number, tmp_path).list("")

    assert (caught.value.reason, caught.value.transient) == ("StoreUnreachable", True)
