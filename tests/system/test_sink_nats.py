"""The NATS store on a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector.errors import SinkError
from connector.sink.parts import Parts
from connector.sink.store import Store
from connector.sink.tasks import nats_kv_store
from tests.suites.store import StoreSuite
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


class TestNatsKvStore(StoreSuite):
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
