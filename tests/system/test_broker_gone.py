"""A broker that dies in the middle of a transaction and does not come back soon: what waits for it has an end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from connector.kafka.attempt import abort, close, initialise
from connector.kafka.clients import Clients
from tests.fakes.registry import FakeRegistry
from tests.system.product import Product, Running, assert_whole
from tests.system.servers import Broker, start_broker

pytestmark = pytest.mark.system

FILES = {"a.yaml": b"a: 1\n", "b.yaml": b"b: 1\n"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One of our own, to kill."""
    with ExitStack() as ends:
        yield start_broker(tmp_path / "broker", ends)


@pytest.fixture
def product(tmp_path: Path, broker: Broker, unique: str) -> Iterator[Product]:
    with FakeRegistry() as registry:
        registry.publish(f"{unique}/flows", "prod", FILES)
        yield Product(tmp_path / "product", broker.bootstrap, registry.reference(f"{unique}/flows"), unique)


def test_a_producer_is_closed_in_seconds_though_its_transaction_cannot_be_ended(broker: Broker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic("files", 1, 1)])["files"].result(30)
    clients = Clients({"bootstrap.servers": broker.bootstrap})
    producer = clients.producer("group-0", 1_000_000, 1_000_000, {})
    initialise(clients, producer, "group-0")
    producer.begin_transaction()
    producer.produce("files", b"value", partition=0)
    producer.flush(10)
    broker.kill()
    started = time.monotonic()

    abort(producer)
    close(producer)

    assert time.monotonic() - started < 20


def killed_amid_a_transaction(broker: Broker, running: Running) -> None:
    deadline = time.monotonic() + 30
    status = Path(f"/proc/{running.process.pid}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, running.text()
        time.sleep(0.02)
    broker.kill()
    os.kill(running.process.pid, signal.SIGCONT)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_single_run_ends_and_says_that_no_broker_answers(product: Product, broker: Broker) -> None:
    with product.running("--once", "--only", "source", env={"OCI_SYNC_FAULT": "stop:records_sent"}) as run:
        killed_amid_a_transaction(broker, run)

        assert run.process.wait(240) == 1

    assert "(KafkaUnreachable)" in run.text()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_worker_goes_on_after_an_outage_longer_than_its_transaction(product: Product, broker: Broker) -> None:
    with product.running("--only", "source", env={"OCI_SYNC_FAULT": "stop:offsets_sent"}) as run:
        killed_amid_a_transaction(broker, run)
        time.sleep(90)
        broker.start()

        (pull,) = product.wait_for_pulls(1, seconds=120)
        time.sleep(10)

        assert product.wait_for_pulls(1) == [pull]
        assert_whole(pull)
        assert "held readers back" in run.text()
        assert run.end(60) == 0
