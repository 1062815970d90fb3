"""What is asked of a source through Kafka reaches its owner, is done once, and leaves the fence whole."""

import json
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.product import COMMAND, Product, assert_whole, pulls_of, table_of
from tests.system.servers import Broker, Oras, Registry

pytestmark = pytest.mark.system

FILES = {"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"}


@pytest.fixture
def product(tmp_path: Path, kafka: Broker, registry: Registry, unique: str) -> Product:
    return Product(tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique, interval="1h")


def offsets_verb(product: Product, verb: str, *arguments: str) -> str:
    return _run([*COMMAND, "offsets", verb, "-c", str(product.worker_file), *arguments])


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_reset_without_a_worker_joins_the_group_and_the_next_tick_sends_everything(
    product: Product, oras: Oras
) -> None:
    oras.push(product.artifact, FILES)
    assert product.run_once().returncode == 0

    told = offsets_verb(product, "reset", "--yes", product.name)
    forgotten = product.offsets()
    assert product.run_once().returncode == 0

    assert "done" in told
    assert forgotten == {}
    first, second = pulls_of(product.read())
    assert_whole(second)
    assert table_of(second) == FILES
    assert len(first) == len(second) == 2


def test_a_running_owner_carries_out_reset_trigger_pause_and_resume(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, FILES)
    with product.running() as worker:
        product.wait_for_pulls(1)

        offsets_verb(product, "reset", "--yes", product.name)
        product.wait_for_pulls(2)
        assert product.offsets()

        oras.push(product.artifact, {"a.yaml": "a: 2\n"})
        assert "done" in _run(product.command("trigger", f"{product.name}/pull"))
        product.wait_for_pulls(3)

        _run(product.command("pause", product.name))
        oras.push(product.artifact, {"a.yaml": "a: 3\n"})
        worker.end()

    # A pause outlives the worker; the next owner of the source keeps it.
    with product.running() as heir:
        _run(product.command("trigger", "--force", product.name))
        product.wait_for_pulls(4)
        oras.push(product.artifact, {"a.yaml": "a: 4\n"})
        assert len(pulls_of(product.read())) == 4
        _run(product.command("resume", product.name))
        product.wait_for_pulls(5)
        heir.end()

    for pull in pulls_of(product.read()):
        assert_whole(pull)
    assert table_of(product.read()) == {"a.yaml": "a: 4\n"}


def test_a_digest_that_is_set_counts_as_delivered(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, FILES)
    assert product.run_once().returncode == 0
    digest = oras.push(product.artifact, {"a.yaml": "a: 2\n"})

    offsets_verb(product, "set", "--yes", "--digest", digest, product.name)
    assert product.run_once().returncode == 0

    assert len(pulls_of(product.read())) == 1
    assert product.offsets().popitem()[1]["digest"] == digest


def test_a_digest_that_is_set_while_there_is_no_offset_counts_as_delivered_too(product: Product, oras: Oras) -> None:
    digest = oras.push(product.artifact, FILES)
    with product.running() as worker:
        product.wait_for_pulls(1)
        _run(product.command("pause", product.name))
        offsets_verb(product, "reset", "--yes", product.name)
        offsets_verb(product, "set", "--yes", "--digest", digest, product.name)
        _run(product.command("trigger", product.name))
        worker.end()

    assert len(pulls_of(product.read())) == 1
    assert "digest unchanged" in worker.text()


def test_a_reset_on_a_cluster_without_transactions_needs_none(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = Product(
        tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique,
        worker={"delivery": "at_least_once", "offsets": {"topic": f"offsets-{unique}", "partitions": 1}},
    )  # fmt: skip
    oras.push(product.artifact, FILES)
    assert product.run_once().returncode == 0

    offsets_verb(product, "reset", "--yes", product.name)
    assert product.run_once().returncode == 0

    assert len(pulls_of(product.read())) == 2
    # Offset, its tombstone, that of the request, the second offset: no control record between them.
    assert [record.offset for record in product.read(product.offsets_topic)] == [0, 1, 2, 3]


def test_a_source_that_nobody_knows_is_named_with_those_that_are(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, FILES)
    assert product.run_once().returncode == 0

    result = product.call("trigger", "nobody/knows")

    assert result.returncode == 1
    assert product.name in result.stderr


def test_the_offsets_are_listed_and_shown(product: Product, oras: Oras) -> None:
    digest = oras.push(product.artifact, FILES)
    assert product.run_once().returncode == 0

    (row,) = json.loads(offsets_verb(product, "list", "-o", "json"))
    (whole,) = json.loads(offsets_verb(product, "get", "-o", "json", product.name))

    assert (row["flow"], row["digest"], row["files"]) == (product.name, digest, 2)
    assert set(whole["paths"]) == set(FILES)


def _await_notice(product: Product) -> None:
    deadline = time.monotonic() + 15
    while not any(record.key.startswith("worker.") for record in product.read(product.offsets_topic)):
        assert time.monotonic() < deadline, "the worker has not said what it carries"
        time.sleep(0.1)


def test_a_pause_over_http_is_kept_in_kafka_too(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    product = Product(
        tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique, interval="300ms",
        worker={"http": {"address": address}},
    )  # fmt: skip
    oras.push(product.artifact, FILES)
    with product.running() as worker:
        product.wait_for_pulls(1)
        _await_notice(product)  # by which others know the names of its tasks; posted beside the first pull

        _run([*COMMAND, "pause", "--url", f"http://{address}", f"{product.name}/pull"])
        deadline = time.monotonic() + 15
        while "Paused" not in product.call("status", "-o", "json").stdout:
            assert time.monotonic() < deadline
        oras.push(product.artifact, {"a.yaml": "a: 2\n"})
        _run([*COMMAND, "resume", "--url", f"http://{address}"])
        product.wait_for_pulls(2)
        ready = product.call("status")
        worker.end()

    assert ready.returncode == 0, ready.stdout
    assert "pull" in ready.stdout


def test_workers_that_share_the_users_client_id_are_told_apart(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = Product(
        tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique, interval="1h",
        worker={"kafka": {"bootstrap.servers": kafka.bootstrap, "client.id": "ours"}},
    )  # fmt: skip
    oras.push(product.artifact, FILES)
    with product.running(), product.running():
        deadline = time.monotonic() + 30
        live: list[str] = []
        while len(live) < 2:
            assert time.monotonic() < deadline, f"live are {live}"
            told = product.call("status", "-o", "json").stdout
            live = [worker["name"] for worker in json.loads(told)["worker"]["live"]] if told else []

    assert len(set(live)) == 2
