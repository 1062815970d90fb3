"""The rights that the pages of the stores name, on real servers: with them everything works."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats as nats_client
import pytest
from nats.js.api import KeyValueConfig

from connector.errors import SinkError
from connector.sink.parts import Parts
from connector.sink.store import Store, apply, diff_of
from connector.sink.tasks import nats_kv_store, redis_store
from tests.skipping import or_skip
from tests.system.servers import find_program
from tools.stack.ports import free_ports

pytestmark = pytest.mark.system

PAGES = Path(__file__).resolve().parents[2] / "docs" / "tasks"
PASSWORD = "only-for-this-test"


def block_of(page: str, begin: str) -> str:
    """The block of a page that begins with these words."""
    _, found, after = (PAGES / page).read_text().partition(f"```\n{begin}")
    assert found, f"{page} has no block that begins with {begin}"
    return begin + after.partition("```")[0]


@contextmanager
def serving(command: list[str], folder: Path, ready: str) -> Iterator[None]:
    """A server of this test alone, from its line that says it is ready on."""
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if ready in line:
            break
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)


def login_of(folder: Path, user: str) -> Path:
    path = folder / f"{user}.json"
    path.write_text(json.dumps({"username": user, "password": PASSWORD}))
    return path


async def use(store: Store, prefix: str) -> None:
    """Everything that a flow may ask of a store."""
    await store.probe()
    assert await store.list(prefix) == {}
    for puts in ({f"{prefix}a": b"1", f"{prefix}b": b"1"}, {f"{prefix}a": b"2"}):
        await apply(await diff_of(puts, frozenset(), store), store)
    await apply(await diff_of({}, frozenset({f"{prefix}b"}), store), store)
    assert {key: entry.value for key, entry in (await store.list(prefix)).items()} == {f"{prefix}a": b"2"}
    assert await store.keys(prefix) == {f"{prefix}a"}
    assert await store.get(f"{prefix}b") is None
    await store.probe()


@pytest.mark.parametrize("direct", [None, True], ids=["a bucket of ours", "one that allows direct gets"])
async def test_the_permissions_that_the_page_names_are_enough_for_nats(tmp_path: Path, direct: bool | None) -> None:
    (port,) = free_ports(1)
    users = f"{{user: oci-sync, password: {PASSWORD}, {block_of('nats_kv_store.md', 'permissions: {')}}}"
    (tmp_path / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\njetstream: {{store_dir: "{tmp_path / "js"}"}}\n'
        f"authorization: {{users: [{users}, {{user: admin, password: {PASSWORD}}}]}}\n"
    )
    program = str(Path(sys.executable).with_name("nats-server"))
    with serving([program, "-c", "nats.conf"], tmp_path, "Server is ready"):
        url, bucket = f"nats://127.0.0.1:{port}", "flowgen_system"
        admin = await nats_client.connect(url, user="admin", password=PASSWORD)
        if direct is not None:
            await admin.jetstream().create_key_value(KeyValueConfig(bucket=bucket, direct=direct))
        login = login_of(tmp_path, "oci-sync")
        store = nats_kv_store.build(
            nats_kv_store.Fields(name="kv", url=url, bucket=bucket, credentials_path=login), Parts("f")
        )

        await use(store, "rules.")

        many = await admin.jetstream().key_value(bucket)
        await asyncio.gather(*(many.put(f"many.{number}", b"x" * 100_000) for number in range(100)))
        assert len(await store.list("many.")) == 100  # ten megabytes: the server asks for flow control
        await store.close()
        await admin.close()


@contextmanager
def redis_with(rights: str, folder: Path) -> Iterator[int]:
    """The port of a Redis whose user `oci-sync` has these rights."""
    with or_skip():
        program = find_program("redis-server")
    (port,) = free_ports(1)
    (folder / "redis.conf").write_text(
        f'bind 127.0.0.1\nport {port}\nsave ""\nuser default off\nuser {rights.replace(">password", f">{PASSWORD}")}\n'
    )
    with serving([str(program), "redis.conf"], folder, "Ready to accept connections"):
        yield port


def redis_store_at(port: int, folder: Path) -> Store:
    login = login_of(folder, "oci-sync")
    fields = redis_store.Fields(name="r", url=f"redis://127.0.0.1:{port}/1", credentials_path=login)
    return redis_store.build(fields, Parts("f"))


async def test_the_commands_that_the_page_names_are_enough_for_redis(tmp_path: Path) -> None:
    rights = block_of("redis_store.md", "ACL SETUSER ").removeprefix("ACL SETUSER ").strip()
    with redis_with(rights, tmp_path) as port:
        store = redis_store_at(port, tmp_path)

        await use(store, "rules.")

        await store.close()


@pytest.mark.parametrize("command", ["get", "mget", "set", "del", "scan", "eval", "ping", "select"])
async def test_without_any_one_of_them_something_is_refused(tmp_path: Path, command: str) -> None:
    rights = block_of("redis_store.md", "ACL SETUSER ").removeprefix("ACL SETUSER ").strip()
    with redis_with(re.sub(rf"\+{command}\b", "", rights), tmp_path) as port:
        store = redis_store_at(port, tmp_path)

        with pytest.raises(SinkError) as caught:
            await use(store, "rules.")

        assert caught.value.reason == "StoreRefused"
        await store.close()
