"""What registries and machines do to a pull, on a real Kafka: releases stay whole, once, and of one digest."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from connector.kafka.record import partition_for
from connector.records.source_offset import offset_key
from tests.fakes.registry import FakeRegistry
from tests.system.product import Product, Running, Seen, assert_whole, pulls_of, table_of
from tests.system.servers import Broker, Oras, Registry

pytestmark = pytest.mark.system

ONE = {"a.yaml": b"a: 1\n", "b.yaml": b"b: 1\n"}
TWO = {"a.yaml": b"a: 2\n", "c.yaml": b"c: 2\n"}


def as_text(files: dict[str, bytes]) -> dict[str, str]:
    return {path: content.decode() for path, content in files.items()}


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def product(tmp_path: Path, kafka: Broker, fake: FakeRegistry, unique: str) -> Product:
    return Product(
        tmp_path, kafka.bootstrap, fake.reference(f"{unique}/flows"), unique, interval="300ms",
        task={"retry": {"max_attempts": 3, "initial_backoff": "20ms"}},
    )  # fmt: skip


def repository(product: Product) -> str:
    return f"{product.name}/flows"


def test_a_tag_that_moves_between_head_and_get_gives_the_release_that_head_saw(
    product: Product, fake: FakeRegistry
) -> None:
    first = fake.publish(repository(product), "prod", ONE)
    second = fake.publish(repository(product), None, TWO)

    async def move_and_answer(request: web.BaseRequest) -> web.StreamResponse:
        fake.move_tag(repository(product), "prod", second.digest)
        return await fake._answer(request)

    fake.answer(move_and_answer, on="GET /v2/")

    assert product.run_once().returncode == 0

    (pull,) = pulls_of(product.read())
    assert {record.headers["oci.artifact_digest"] for record in pull} == {first.digest}
    assert table_of(pull) == as_text(ONE)
    assert all("/manifests/prod" not in seen.path for seen in fake.requests if seen.method == "GET")

    assert product.run_once().returncode == 0

    assert table_of(product.read()) == as_text(TWO)
    assert len(pulls_of(product.read())) == 2


def test_a_registry_that_dies_in_the_middle_of_a_blob_leaves_nothing_and_the_next_tick_mends_it(
    product: Product, fake: FakeRegistry
) -> None:
    big = {"big.txt": b"0123456789" * 50_000, **ONE}
    fake.publish(repository(product), "prod", big)
    fake.cut_after(1_000, on="/blobs/", times=1_000)

    with product.running() as worker:
        worker.wait_for("ERROR")
        assert product.read(committed=False) == []
        assert product.offsets() == {}
        fake.heal()
        product.wait_for_pulls(1)
        assert worker.end() == 0

    (pull,) = pulls_of(product.read())
    assert_whole(pull)
    assert table_of(pull) == as_text(big)


def test_a_blob_that_is_not_what_the_manifest_promised_is_refused(product: Product, fake: FakeRegistry) -> None:
    published = fake.publish(repository(product), "prod", ONE)
    fake.blobs[published.layers[0]] = b"a: 6\n"

    result = product.run_once()

    assert result.returncode == 1
    assert "reason=DigestMismatch" in result.stderr
    assert product.read(committed=False) == []


def test_an_index_is_followed_to_the_platform_and_both_digests_are_told(
    tmp_path: Path, kafka: Broker, fake: FakeRegistry, unique: str
) -> None:
    name = f"{unique}/flows"
    arm = fake.publish(name, None, {"a.yaml": b"arm\n"})
    amd = fake.publish(name, None, {"a.yaml": b"amd\n"})
    index = fake.publish_index(
        name, "prod",
        [(arm, {"os": "linux", "architecture": "arm64"}), (amd, {"os": "linux", "architecture": "amd64"})],
    )  # fmt: skip
    silent = Product(tmp_path / "1", kafka.bootstrap, fake.reference(name), unique)
    choosing = Product(tmp_path / "2", kafka.bootstrap, fake.reference(name), unique, task={"platform": "linux/arm64"})

    refused = silent.run_once()
    assert choosing.run_once().returncode == 0

    assert refused.returncode == 1
    assert "reason=PlatformMissing" in refused.stderr
    assert "linux/arm64" in refused.stderr
    assert "linux/amd64" in refused.stderr
    (record,) = choosing.read()
    assert record.content == "arm\n"
    assert record.headers["oci.artifact_digest"] == index.digest
    assert record.headers["oci.manifest_digest"] == arm.digest
    assert json.loads(record.value or b"")["artifact_digest"] == index.digest
    (offset,) = choosing.offsets().values()
    assert (offset["digest"], offset["manifest_digest"]) == (index.digest, arm.digest)


def source_offsets(product: Product) -> list[Seen]:
    """All that were ever written; what a worker tells of itself when it comes and goes is not among them."""
    records = product.read(product.offsets_topic, committed=False)
    return [record for record in records if not record.key.startswith("worker.")]


def test_a_hundred_quiet_ticks_are_a_hundred_heads_and_no_new_connection(
    tmp_path: Path, kafka: Broker, fake: FakeRegistry, unique: str
) -> None:
    product = Product(tmp_path, kafka.bootstrap, fake.reference(f"{unique}/flows"), unique, interval="20ms")
    fake.publish(f"{unique}/flows", "prod", ONE)
    with product.running() as worker:
        product.wait_for_pulls(1)
        written = source_offsets(product)
        already = len(fake.requests)
        worker.wait_for("digest unchanged", count=100)
        worker.end()

    quiet = fake.requests[already:]
    assert {seen.method for seen in quiet} == {"HEAD"}
    assert {seen.connection for seen in quiet} <= {seen.connection for seen in fake.requests[:already]}
    assert len(quiet) <= len(re.findall("digest unchanged", worker.text())) + 1
    assert source_offsets(product) == written
    assert len(pulls_of(product.read())) == 1


def test_an_empty_release_is_refused_unless_it_is_allowed(
    tmp_path: Path, kafka: Broker, fake: FakeRegistry, unique: str
) -> None:
    name = f"{unique}/flows"
    product = Product(tmp_path / "1", kafka.bootstrap, fake.reference(name), unique)
    allowing = Product(tmp_path / "2", kafka.bootstrap, fake.reference(name), unique, task={"allow_empty": True})
    fake.publish(name, "prod", ONE)
    assert product.run_once().returncode == 0
    fake.publish_layers(name, "prod", [])

    refused = product.run_once()
    kept = table_of(product.read())
    assert allowing.run_once().returncode == 0

    assert refused.returncode == 1
    assert "reason=EmptyArtifact" in refused.stderr
    assert kept == as_text(ONE)
    assert table_of(product.read()) == {}
    assert [record.change for record in pulls_of(product.read())[-1]] == ["removed", "removed"]


@pytest.mark.parametrize("point", ["transaction_begun", "records_sent", "offsets_sent"])
def test_a_worker_that_was_frozen_past_its_session_writes_nothing_when_it_wakes(
    product: Product, fake: FakeRegistry, point: str
) -> None:
    """The zombie: frozen inside a transaction, its partition taken over and a newer release committed; then woken."""
    fake.publish(repository(product), "prod", ONE)
    with product.running(env={"OCI_SYNC_FAULT": f"stop:{point}"}) as zombie:
        wait_until_stopped(zombie)
        newer = fake.publish(repository(product), "prod", TWO)
        with product.running() as heir:
            product.wait_for_pulls(1)
            os.kill(zombie.process.pid, signal.SIGCONT)
            zombie.wait_for("reason=(NotOwner|Fenced)|before the partition was given up")
            heir.end()
            # It comes to itself without a restart, as a member of the group.
            zombie.wait_for("digest unchanged", seconds=40)
            zombie.end()
    assert "this worker is out of it" in zombie.text()

    pulls = pulls_of(product.read())
    assert [pull[0].headers["oci.artifact_digest"] for pull in pulls] == [newer.digest]
    assert_whole(pulls[0])
    assert digests(product.read(committed=False)) >= digests(product.read())


@pytest.mark.parametrize("point", ["producer_initialised", "transaction_begun", "records_sent", "offsets_sent"])
def test_a_worker_that_is_told_to_stop_inside_a_transaction_ends_it_before_it_leaves(
    product: Product, fake: FakeRegistry, kafka: Broker, point: str
) -> None:
    fake.publish(repository(product), "prod", ONE)
    with product.running(env={"OCI_SYNC_FAULT": f"stop:{point}"}) as worker:
        wait_until_stopped(worker)
        worker.process.terminate()
        os.kill(worker.process.pid, signal.SIGCONT)
        code = worker.process.wait(30)

    assert code == 0, worker.text()
    assert stands_open(kafka, product.topic) == stands_open(kafka, product.offsets_topic) == 0
    pulls = pulls_of(product.read())
    assert [offset["pull_id"] for offset in product.offsets().values()] == [pull[0].pull_id for pull in pulls]
    # It left the group too: a single run refuses one that is at work.
    again = product.run_once()
    assert again.returncode == 0, again.stderr
    (pull,) = pulls_of(product.read())
    assert_whole(pull)
    assert table_of(pull) == as_text(ONE)


def test_a_broker_that_stands_still_is_told_of_when_the_session_ends_and_again_when_it_goes_on(
    product: Product, fake: FakeRegistry, kafka: Broker
) -> None:
    """Its connections live, so that no client loses it for a minute."""
    fake.publish(repository(product), "prod", ONE)
    with product.running() as worker:
        product.wait_for_pulls(1)
        kafka.pause()
        try:
            worker.wait_for("this worker is out of it", seconds=20)
            fake.publish(repository(product), "prod", TWO)
        finally:
            kafka.resume()
        worker.wait_for("Kafka answers again", seconds=30)
        # Its own reader would meet the moment in which the broker names none.
        worker.wait_for(r"(committed \d+ files[\s\S]*){2}", seconds=40)

    one, two = pulls_of(product.read())
    assert_whole(one)
    assert_whole(two)


def test_a_transaction_that_waits_for_its_broker_is_aborted_by_a_worker_that_is_told_to_stop(
    product: Product, fake: FakeRegistry, kafka: Broker
) -> None:
    fake.publish(repository(product), "prod", ONE)
    with product.running(env={"OCI_SYNC_FAULT": "stop:transaction_begun"}) as worker:
        wait_until_stopped(worker)
        kafka.pause()
        worker.process.terminate()
        os.kill(worker.process.pid, signal.SIGCONT)
        time.sleep(2)  # the signal meets the transaction while its records wait; nothing is written that could be seen
        kafka.resume()
        code = worker.process.wait(30)

    assert code == 0, worker.text()
    assert "before the partition was given up" in worker.text()
    assert "reason=" not in worker.text()
    assert stands_open(kafka, product.topic) == stands_open(kafka, product.offsets_topic) == 0
    assert product.read() == []
    assert product.run_once().returncode == 0
    assert table_of(product.read()) == as_text(ONE)


def stands_open(kafka: Broker, topic: str) -> int:
    """How many offsets of the topic are held back from committed readers by open transactions."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    places = [TopicPartition(topic, number) for number in admin.list_topics(topic, 10).topics[topic].partitions]

    def ends(isolation: IsolationLevel) -> int:
        futures = admin.list_offsets({place: OffsetSpec.latest() for place in places}, isolation_level=isolation)
        return sum(future.result(10).offset for future in futures.values())

    return ends(IsolationLevel.READ_UNCOMMITTED) - ends(IsolationLevel.READ_COMMITTED)


def digests(records: list[Seen]) -> set[str]:
    return {record.headers["oci.artifact_digest"] for record in records}


def wait_until_stopped(worker: Running) -> None:
    deadline = time.monotonic() + 30
    stat = Path(f"/proc/{worker.process.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, worker.text()
        assert worker.process.poll() is None, worker.text()
        time.sleep(0.02)


def test_two_workers_share_the_sources_and_one_takes_over_when_the_other_is_killed(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = Product(tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique, interval="300ms")
    oras.push(product.artifact, as_text(ONE))
    with product.running() as first, product.running() as second:
        product.wait_for_pulls(1)
        oras.push(product.artifact, as_text(TWO))
        product.wait_for_pulls(2)
        first.process.kill()
        oras.push(product.artifact, {"a.yaml": "a: 3\n"})
        product.wait_for_pulls(3, seconds=40)
        second.end()

    pulls = pulls_of(product.read())
    assert len(pulls) == 3
    for pull in pulls:
        assert_whole(pull)
    assert table_of(product.read()) == {"a.yaml": "a: 3\n"}


def test_a_topic_that_was_deleted_is_filled_again_although_the_digest_stands(
    product: Product, fake: FakeRegistry, kafka: Broker
) -> None:
    fake.publish(repository(product), "prod", ONE)
    assert product.run_once().returncode == 0
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([product.topic])[product.topic].result(10)
    deadline = time.monotonic() + 10
    while product.exists():
        assert time.monotonic() < deadline

    again = product.run_once()

    assert again.returncode == 0, again.stderr
    assert "reason=OffsetLost" in again.stderr
    assert table_of(product.read()) == as_text(ONE)


@pytest.mark.parametrize("share_a_partition", [False, True])
def test_a_topic_that_was_deleted_stops_its_own_source_alone_and_is_filled_when_it_is_back(
    tmp_path: Path, product: Product, fake: FakeRegistry, kafka: Broker, share_a_partition: bool
) -> None:
    other = next(
        one
        for number in range(40)
        if (owned_by(one := named(product, tmp_path / str(number), f"{product.name}-{number}")) == owned_by(product))
        is share_a_partition
    )
    for one in (product, other):
        fake.publish(repository(one), "prod", ONE)
    with product.running(str(other.flow_file)) as worker:
        product.wait_for_pulls(1)
        other.wait_for_pulls(1)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.delete_topics([product.topic])[product.topic].result(10)

        for release, files in enumerate([TWO, ONE], start=2):
            for one in (product, other):
                fake.publish(repository(one), "prod", files)
            other.wait_for_pulls(release)
        worker.wait_for("reason=TopicMissing")
        assert not product.exists()

        assert product.call("topics", "create", str(product.flow_file)).returncode == 0
        worker.wait_for(rf"{product.name}/pull\]: committed", count=2, seconds=60)
        worker.end()

    assert table_of(other.read()) == table_of(product.read()) == as_text(ONE)


def named(like: Product, folder: Path, name: str) -> Product:
    """Another flow of the same registry and cluster."""
    registry = like.artifact.partition("/")[0]
    return Product(folder, like.bootstrap, f"{registry}/{name}/flows:prod", name, like.interval, like.task)


def owned_by(product: Product) -> int:
    """The partition of the offsets topic that its source hashes to."""
    return partition_for(offset_key(product.name, product.artifact), 4)


def test_a_cluster_that_dies_is_told_once_within_seconds_and_its_return_too(
    product: Product, fake: FakeRegistry, kafka: Broker
) -> None:
    fake.publish(repository(product), "prod", ONE)
    with product.running() as worker:
        product.wait_for_pulls(1)
        before = len(worker.text())
        kafka.kill()
        worker.wait_for(r"(?m)^\S+ ERROR .*reason=KafkaUnreachable", seconds=15)
        told = worker.text()[before:]
        kafka.start()
        worker.wait_for("Kafka answers again", seconds=30)
        fake.publish(repository(product), "prod", TWO)
        product.wait_for_pulls(2, seconds=40)
        assert worker.end() == 0

    assert kafka.bootstrap in told
    assert told.count(" ERROR ") == 1, told


def test_a_worker_that_waits_for_its_cluster_is_alive_and_says_why_it_is_not_ready(
    tmp_path: Path, fake: FakeRegistry, unique: str
) -> None:
    address = f"127.0.0.1:{free_port()}"
    product = Product(
        tmp_path, "127.0.0.1:1", fake.reference(f"{unique}/flows"), unique, worker={"http": {"address": address}}
    )
    with product.running() as worker:
        deadline = time.monotonic() + 20
        while (ready := answer_of(f"http://{address}/readyz")) is None or "not reachable" not in ready[1]:
            assert time.monotonic() < deadline, (ready, worker.text())
            time.sleep(0.1)
        alive = answer_of(f"http://{address}/healthz")
        worker.process.terminate()
        assert worker.process.wait(30) == 0

    assert ready[0] == 503
    assert alive is not None
    assert alive[0] == 200


def answer_of(url: str) -> tuple[int, str] | None:
    """Status and body; None where nobody listens."""
    try:
        response = httpx.get(url, timeout=5)
    except httpx.ConnectError:
        return None
    return response.status_code, response.text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_sink_alone_tells_once_that_its_cluster_died_and_goes_on_when_it_is_back(
    product: Product, fake: FakeRegistry, kafka: Broker
) -> None:
    folder = product.folder / "store"
    flow = json.loads(product.flow_file.read_text())
    flow["flow"]["tasks"] += [
        {"buffer": {"name": "whole"}},
        {"diff": {"name": "all", "owns": ["f/"], "routes": [{"match": ".", "key": "f/{{ path }}"}]}},
        {"directory_store": {"name": "save", "directory": str(folder)}},
    ]
    product.flow_file.write_text(json.dumps(flow))
    fake.publish(repository(product), "prod", ONE)
    assert product.run_once("--only", "source").returncode == 0
    with product.running("--only", "sink") as worker:
        worker.wait_for("a.yaml|applied|puts", seconds=30)
        before = len(worker.text())
        kafka.kill()
        worker.wait_for(r"(?m)^\S+ ERROR .*reason=KafkaUnreachable", seconds=30)
        time.sleep(4)
        told = worker.text()[before:]
        kafka.start()
        worker.wait_for("the topic is read again", seconds=60)
        fake.publish(repository(product), "prod", TWO)
        assert product.run_once("--only", "source").returncode == 0
        deadline = time.monotonic() + 30
        while not list(folder.rglob("c.yaml")):
            assert time.monotonic() < deadline, worker.text()
            time.sleep(0.1)
        assert worker.end() == 0

    assert told.count(" ERROR ") == 1, told


def test_the_status_says_what_a_registry_that_counts_still_lets_us_ask(product: Product, fake: FakeRegistry) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    worker_file = json.loads(product.worker_file.read_text())
    product.worker_file.write_text(json.dumps({**worker_file, "http": {"address": address}}))
    fake.publish(repository(product), "prod", ONE)
    fake.rate_limit_headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}
    with product.running():
        product.wait_for_pulls(1)
        told = json.loads(product.call("status", "-o", "json").stdout)

    (budget,) = told["worker"]["registries"]
    assert (budget["registry"], budget["remaining"], budget["limit"]) == (fake.address, 76, 100)
