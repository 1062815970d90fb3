"""The reader's library and `peek --snapshot`: whole snapshots of a real topic, and nothing else."""

import asyncio
import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from connector.errors import OutputError
from connector.snapshots import Snapshot, Snapshots
from tests.system.product import Product
from tests.system.servers import Broker, Oras, Registry

pytestmark = pytest.mark.system

RELEASES = [{"a": "1", "b/c": "1"}, {"a": "2", "d": "ü"}]


@pytest.fixture
def product(tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str) -> Product:
    made = Product(tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique)
    for files in RELEASES:
        oras.push(made.artifact, files)
        assert made.run_once().returncode == 0
    oras.push(made.artifact, {"never": "seen"})
    made.run_once(env={"OCI_SYNC_FAULT": "kill:records_sent"})
    return made


def contents(snapshot: Snapshot) -> dict[str, str]:
    return {file.path: (file.content or b"").decode() for file in snapshot.files}


async def test_every_whole_release_comes_once_in_order_and_the_aborted_one_never(product: Product) -> None:
    properties = {"bootstrap.servers": product.bootstrap}

    in_a_loop = [contents(one) async for one in Snapshots(properties, product.topic)]
    in_a_thread = await asyncio.to_thread(lambda: [contents(one) for one in Snapshots(properties, product.topic)])

    assert in_a_loop == in_a_thread == RELEASES


def test_a_follower_gets_the_next_release_and_may_leave_at_any_time(product: Product, oras: Oras) -> None:
    following = iter(Snapshots({"bootstrap.servers": product.bootstrap}, product.topic, follow=True))
    seen = [contents(next(following)), contents(next(following))]
    oras.push(product.artifact, {"new": "1"})
    assert product.run_once("--join").returncode == 0

    seen.append(contents(next(following)))
    following.close()  # type: ignore[attr-defined]  # a generator

    assert seen == [*RELEASES, {"new": "1"}]
    assert not any("snapshots-" in thread.name for thread in threading.enumerate())


def test_a_topic_that_is_not_there_is_an_error_of_the_tree(kafka: Broker, unique: str) -> None:
    with pytest.raises(OutputError) as caught:
        list(Snapshots({"bootstrap.servers": kafka.bootstrap}, unique))

    assert caught.value.reason == "TopicMissing"


def test_peek_writes_the_newest_whole_set_into_a_folder(product: Product, tmp_path: Path) -> None:
    out = tmp_path / "out"

    shown = product.call("peek", "--snapshot", product.topic)
    written = product.call("peek", "--to", str(out), product.topic)

    assert shown.returncode == written.returncode == 0, shown.stderr + written.stderr
    assert {path for path in ("a", "d") if f"  {path}  " in shown.stdout} == {"a", "d"}
    assert "b/c" not in shown.stdout
    held = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert held == RELEASES[-1]


def test_peek_follows_what_is_committed_until_it_is_interrupted(product: Product, oras: Oras) -> None:
    with subprocess.Popen(
        product.command("peek", "-f", "-o", "json", product.topic),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # As at a terminal: what a script starts in the background, the tests perhaps, ignores the signal from birth.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as peek:  # fmt: skip
        assert peek.stdout is not None
        assert peek.stderr is not None
        try:
            before = [json.loads(peek.stdout.readline()) for _ in range(5)]
            oras.push(product.artifact, {"new": "later"})
            assert product.run_once("--join").returncode == 0
            after = [json.loads(peek.stdout.readline()) for _ in range(3)]
            peek.send_signal(signal.SIGINT)
            code = peek.wait(20)
        finally:
            peek.kill()
        rest, told = peek.stdout.read(), peek.stderr.read()

    assert {(one["path"], one["tombstone"]) for one in before} == {
        ("a", False),
        ("b/c", False),
        ("d", False),
        ("b/c", True),
    }
    assert {(one["path"], one["tombstone"]) for one in after} == {("new", False), ("a", True), ("d", True)}
    assert (code, rest, told) == (130, "", "")
