"""The NATS store on a real server."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connector.errors import OciSyncError, SinkError
from connector.sink.parts import Parts
from connector.sink.store import Store
from connector.sink.tasks import nats_kv_store
from tests.suites.store import ConditionalStoreSuite
from tests.system.servers import Nats

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


@contextmanager
def _server_with_users(folder: Path) -> Iterator[str]:
    """A server of this test alone: `writer` may all, `reader` may not write to the bucket."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    (folder / "nats.conf").write_text(
        f"""
        listen: "127.0.0.1:{port}"
        jetstream: {{store_dir: "{folder / "js"}"}}
        authorization: {{users: [
            {{user: writer, password: writer-secret}},
            {{user: reader, password: reader-secret, permissions: {{publish: {{deny: ["$KV.>"]}}}}}}
        ]}}
        """
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
