"""The NATS store on a real server."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import nats as nats_client
import pytest
from nats.js.api import KeyValueConfig

from connector.errors import OciSyncError, SinkError
from connector.sink.parts import Parts
from connector.sink.store import Store
from connector.sink.tasks import nats_kv_store
from tests.certificates import self_signed
from tests.suites.store import ConditionalStoreSuite
from tests.system.servers import Nats
from tools.stack.ports import free_ports

pytestmark = pytest.mark.system


def _store(url: str, bucket: str, **fields: object) -> Store:
    return nats_kv_store.build(
        nats_kv_store.Fields.model_validate({"name": "kv", "url": url, "bucket": bucket, **fields}), Parts("f")
    )


@pytest.fixture
async def store(nats: Nats, unique: str) -> AsyncIterator[Store]:
    store = _store(nats.url, unique)
    yield store
    await store.close()


class TestNatsKvStore(ConditionalStoreSuite):
    pass


async def test_a_missing_bucket_is_refused_where_it_may_not_be_created(nats: Nats, unique: str) -> None:
    store = _store(nats.url, unique, create_bucket=False)

    with pytest.raises(SinkError, match="create_bucket is false") as caught:
        await store.list("")

    assert caught.value.reason == "StoreRefused"
    await store.close()


async def _delete_bucket(nats: Nats, bucket: str) -> None:
    client = await nats_client.connect(nats.url)
    assert await client.jetstream().delete_key_value(bucket)
    await client.close()


@pytest.mark.parametrize("ask", ["list", "keys", "put"])
async def test_a_bucket_that_is_deleted_beside_us_is_made_anew_with_the_next_call(
    nats: Nats, store: Store, unique: str, ask: str
) -> None:
    await store.put("a", b"1", None)
    await _delete_bucket(nats, unique)

    with pytest.raises(SinkError) as caught:
        await (store.put("b", b"1", None) if ask == "put" else getattr(store, ask)("a"))

    assert (caught.value.reason, caught.value.transient) == ("StoreUnreachable", True)
    assert await store.list("") == {}
    await store.put("a", b"2", None)
    assert (await store.list("")).keys() == {"a"}


async def test_a_bucket_that_is_deleted_and_may_not_be_created_is_missed_until_it_is_back(
    nats: Nats, unique: str
) -> None:
    store = _store(nats.url, unique, create_bucket=False)
    client = await nats_client.connect(nats.url)
    await client.jetstream().create_key_value(KeyValueConfig(bucket=unique))
    assert await store.list("") == {}
    await _delete_bucket(nats, unique)

    for _ in range(2):
        with pytest.raises(SinkError, match="create_bucket is false") as caught:
            await store.list("")
        assert caught.value.reason == "StoreRefused"

    await client.jetstream().create_key_value(KeyValueConfig(bucket=unique))
    assert await store.list("") == {}
    await client.close()
    await store.close()


@pytest.mark.parametrize("key", ["a b", "a.", ".a", "a..b", "a*", "a.>", "ä", "", "a\r\nPUB x 0"])
async def test_a_key_that_nats_refuses_is_named_before_anything_is_sent(store: Store, key: str) -> None:
    with pytest.raises(SinkError) as caught:
        await store.put(key, b"1", None)

    assert caught.value.reason == "KeyInvalid"


async def test_a_value_beyond_the_servers_limit_names_both_sizes(store: Store) -> None:
    await store.list("")

    with pytest.raises(SinkError, match=r"1100000 bytes, and the server takes 10483\d\d") as caught:
        store.check("a", b"x" * 1_100_000)

    assert caught.value.reason == "ValueTooLarge"


async def test_a_server_that_is_down_is_a_transient_error_and_its_return_is_noticed(nats: Nats, store: Store) -> None:
    await store.put("a", b"1", None)
    nats.stop()
    with pytest.raises(SinkError) as caught:
        await store.list("")
    nats.start()

    assert (caught.value.reason, caught.value.transient) == ("StoreUnreachable", True)
    assert (await store.list("a"))["a"].value == b"1"


async def test_thousands_of_keys_are_listed_at_once(store: Store) -> None:
    for number in range(1500):
        await store.put(f"many.{number}", b"x" * 100, None)

    assert len(await store.list("many.")) == 1500
    assert len(await store.keys("many.")) == 1500


async def test_no_server_at_all_is_named(unique: str) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()

    with pytest.raises(SinkError, match=f"127.0.0.1:{port}") as caught:
        await _store(f"nats://127.0.0.1:{port}", unique).list("")

    assert caught.value.reason == "StoreUnreachable"


async def test_a_credentials_file_that_is_none_is_told_without_its_content(nats: Nats, tmp_path: Path) -> None:
    path = tmp_path / "nats.json"
    path.write_text(json.dumps({"pass": "hunter2"}))

    with pytest.raises(Exception, match="neither user and password nor token") as caught:
        await _store(nats.url, "b", credentials_path=str(path)).list("")

    assert "hunter2" not in str(caught.value)


async def test_a_probe_does_not_create_the_bucket(nats: Nats, unique: str) -> None:
    store = _store(nats.url, unique)

    assert "does not exist yet" in await store.probe()
    assert "does not exist yet" in await store.probe()
    await store.list("")
    assert "answers" in await store.probe()
    await store.close()


@pytest.mark.parametrize("text", ["-----BEGIN NATS USER JWT-----\nx\n", "BEGIN NATS USER JWT"])
async def test_a_broken_creds_file_is_an_error_of_ours(nats: Nats, tmp_path: Path, text: str) -> None:
    path = tmp_path / "user.creds"
    path.write_text(text)

    with pytest.raises(OciSyncError):
        await _store(nats.url, "b", credentials_path=str(path)).list("")


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_mutual_tls_with_an_authority_of_its_own(tmp_path: Path, unique: str, scheme: str) -> None:
    self_signed(tmp_path, "IP:127.0.0.1")
    files = {"ca_file": tmp_path / "cert.pem", "client_cert": tmp_path / "cert.pem", "client_key": tmp_path / "key.pem"}
    with _server_with_tls(tmp_path) as url:
        store = _store(url.replace("nats://", f"{scheme}://"), unique, **files)

        await store.put("a", b"1", None)

        assert {key: entry.value for key, entry in (await store.list("")).items()} == {"a": b"1"}
        await store.close()


@pytest.mark.parametrize(
    ("given", "says"),
    [((), "CERTIFICATE_VERIFY_FAILED|certificate verify failed"), (("ca_file",), "(?i)certificate|tls|handshake")],
    ids=["an authority that nobody trusts", "no certificate of ours"],
)
async def test_a_handshake_that_fails_is_told_and_nothing_is_sent_in_the_clear(
    tmp_path: Path, unique: str, given: tuple[str, ...], says: str
) -> None:
    self_signed(tmp_path, "IP:127.0.0.1")
    with _server_with_tls(tmp_path) as url:
        store = _store(url.replace("nats://", "tls://"), unique, **dict.fromkeys(given, tmp_path / "cert.pem"))

        with pytest.raises(SinkError, match=says) as caught:
            await store.put("a", b"1", None)

        assert caught.value.reason == "StoreUnreachable"
        await store.close()


async def test_a_server_without_tls_never_hears_our_password_where_tls_was_asked_for(
    tmp_path: Path, unique: str
) -> None:
    heard = bytearray()

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","max_payload":1048576,"auth_required":true}\r\n')
        while said := await reader.read(4096):
            heard.extend(said)
        writer.close()

    (tmp_path / "nats.json").write_text('{"user": "writer", "password": "hunter2"}')
    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    url = f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    store = _store(url, unique, credentials_path=tmp_path / "nats.json")

    with pytest.raises(SinkError, match="does not speak TLS") as caught:
        await store.put("a", b"1", None)

    assert caught.value.reason == "StoreUnreachable"
    assert bytes(heard) == b""
    await store.close()
    server.close()


def _server_with_users(folder: Path) -> AbstractContextManager[str]:
    """`writer` may all, `reader` may not write to the bucket."""
    return _private_server(
        folder,
        """authorization: {users: [
            {user: writer, password: writer-secret},
            {user: reader, password: reader-secret, permissions: {publish: {deny: ["$KV.>"]}}}
        ]}""",
    )


def _server_with_tls(folder: Path) -> AbstractContextManager[str]:
    """It shows cert.pem and wants to see a certificate that cert.pem signed."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    return _private_server(
        folder, f'tls: {{cert_file: "{certificate}", key_file: "{key}", ca_file: "{certificate}", verify: true}}'
    )


@contextmanager
def _private_server(folder: Path, settings: str) -> Iterator[str]:
    """The URL of a server of this test alone, with these settings."""
    (port,) = free_ports(1)
    (folder / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\njetstream: {{store_dir: "{folder / "js"}"}}\n{settings}\n'
    )
    server = subprocess.Popen(
        [Path(sys.executable).with_name("nats-server"), "-c", folder / "nats.conf"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "Server is ready" in line:
            break
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


async def test_users_are_told_apart_by_the_file_and_a_refusal_says_what_the_server_said(
    tmp_path: Path,
) -> None:
    def store(url: str, user: str, password: str) -> Store:
        path = tmp_path / f"{user}.json"
        path.write_text(json.dumps({"user": user, "password": password}))
        return _store(url, "b", credentials_path=str(path))

    with _server_with_users(tmp_path) as url:
        writer, reader = store(url, "writer", "writer-secret"), store(url, "reader", "reader-secret")
        await writer.put("a", b"1", None)
        assert await reader.keys("") == {"a"}
        with pytest.raises(SinkError, match=r"(?i)permissions violation") as caught:
            await reader.put("b", b"1", None)
        assert (caught.value.reason, caught.value.transient) == ("StoreRefused", False)

        with pytest.raises(SinkError) as caught:
            await store(url, "writer", "wrong-secret").list("")
        assert (caught.value.reason, caught.value.transient) == ("StoreRefused", False)
        assert "secret" not in str(caught.value)
        for one in (writer, reader):
            await one.close()
