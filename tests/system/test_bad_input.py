"""What bad input gets: one clear error, exit code 1 with --once, nothing visible, the offset where it stood."""

import json
import socket
import subprocess
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.system.product import Product, pulls_of, table_of
from tests.system.servers import HTPASSWD_PASSWORD, HTPASSWD_USER, Broker, Oras, Registry

pytestmark = pytest.mark.system

GOOD = {"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"}


@pytest.fixture
def product(tmp_path: Path, kafka: Broker, registry: Registry, unique: str) -> Product:
    return Product(tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique)


def failed(result: subprocess.CompletedProcess[str], *said: str) -> str:
    """The output of a run that failed; holds every one of the words, and no traceback."""
    assert result.returncode == 1, result.stderr
    for words in said:
        assert words in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_a_misspelt_field_names_file_line_and_the_field_that_was_meant(product: Product) -> None:
    text = product.flow_file.read_text().replace('"artifact"', '"artefact"')
    product.flow_file.write_text(text)
    line = text[: text.index('"artefact"')].count("\n") + 1

    failed(product.run_once(), f"flow.yaml:{line}:", "'artefact'", "did you mean 'artifact'?")


def test_a_broker_that_does_not_answer_is_named_with_what_to_check(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, GOOD)
    address = f"127.0.0.1:{free_port()}"
    lonely = Product(product.folder / "x", address, product.artifact, product.name)

    failed(lonely.run_once(), address, "advertised.listeners")


def test_a_registry_that_does_not_answer_is_named_and_readers_keep_what_they_have(
    product: Product, oras: Oras, kafka: Broker
) -> None:
    oras.push(product.artifact, GOOD)
    assert product.run_once().returncode == 0
    gone = Product(
        product.folder / "x", kafka.bootstrap, f"127.0.0.1:{free_port()}/{product.name}/flows:prod", product.name,
        task={"retry": {"max_attempts": 2, "initial_backoff": "10ms"}, "topic": product.topic},
    )  # fmt: skip
    before = product.offsets()

    failed(gone.run_once(), "reason=Unreachable", gone.artifact)

    assert product.offsets() == before
    assert table_of(product.read()) == GOOD


def test_a_wrong_password_is_refused_without_being_shown(
    tmp_path: Path, kafka: Broker, registry_htpasswd: Registry, oras: Oras, unique: str
) -> None:
    secret = "not-the-password"
    credentials = tmp_path / "registry.json"
    credentials.write_text(json.dumps({"username": HTPASSWD_USER, "password": secret}))
    artifact = f"{registry_htpasswd.host}/{unique}/flows:prod"
    oras.push(artifact, GOOD, "--username", HTPASSWD_USER, "--password", HTPASSWD_PASSWORD)
    product = Product(
        tmp_path / "product", kafka.bootstrap, artifact, unique, task={"credentials_path": str(credentials)}
    )

    output = failed(product.run_once(), "reason=Unauthorized", registry_htpasswd.host, "registry.json")

    assert secret not in output
    assert product.read() == []
    assert product.offsets() == {}

    credentials.write_text(json.dumps({"username": HTPASSWD_USER, "password": HTPASSWD_PASSWORD}))
    assert product.run_once().returncode == 0
    assert table_of(product.read()) == GOOD


def test_a_missing_tag_is_an_error_that_names_the_reference(product: Product) -> None:
    failed(product.run_once(), "reason=NotFound", product.artifact)

    assert product.read() == []
    assert product.offsets() == {}


def test_a_file_that_is_not_text_refuses_the_release_and_the_last_one_stays(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, GOOD)
    assert product.run_once().returncode == 0
    before = product.offsets()
    oras.push(product.artifact, {**GOOD, "logo.bin": b"\xff\xfe\x00\x01"})

    failed(product.run_once(), "reason=NotText", "logo.bin", "binary")

    assert product.offsets() == before
    assert len(pulls_of(product.read())) == 1


def test_a_file_that_the_topic_cannot_take_refuses_the_release_before_anything_is_sent(
    product: Product, oras: Oras, kafka: Broker
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics(
        [NewTopic(product.topic, 1, 1, config={"cleanup.policy": "compact", "max.message.bytes": "20000"})]
    )[product.topic].result(10)
    oras.push(product.artifact, {**GOOD, "big.txt": "x" * 30_000})

    failed(
        product.run_once(), "reason=RecordTooLarge", "big.txt", "max.message.bytes=20000", "kafka-configs.sh --alter"
    )

    assert product.read(committed=False) == []
    assert product.offsets() == {}


def test_an_artifact_over_the_limits_names_the_number_and_the_setting(
    product: Product, oras: Oras, kafka: Broker
) -> None:
    oras.push(product.artifact, {**GOOD, "big.txt": "x" * 30_000})
    small = Product(
        product.folder / "x", kafka.bootstrap, product.artifact, product.name,
        worker={"limits": {"max_file_size": "20KB"}},
    )  # fmt: skip

    failed(small.run_once(), "reason=TooLarge", "big.txt", "max_file_size")


def test_a_topic_that_forgets_with_age_is_refused_with_the_command_that_mends_it(
    product: Product, oras: Oras, kafka: Broker
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    new = NewTopic(product.topic, 1, 1, config={"cleanup.policy": "delete"})
    admin.create_topics([new])[product.topic].result(10)
    oras.push(product.artifact, GOOD)

    failed(product.run_once(), product.topic, "cleanup.policy", "kafka-configs.sh")


def test_a_missing_topic_is_not_created_where_that_is_forbidden(product: Product, oras: Oras, kafka: Broker) -> None:
    oras.push(product.artifact, GOOD)
    careful = Product(
        product.folder / "x", kafka.bootstrap, product.artifact, product.name, worker={"topics": {"manage": "check"}}
    )

    failed(careful.run_once(), careful.offsets_topic, "kafka-topics.sh", "--create")


def test_one_bad_flow_file_does_not_stop_the_others(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, GOOD)
    bad = product.folder / "bad.yaml"
    bad.write_text("flow: {name: bad, tasks: [{generat: {name: x}}]}")

    failed(product.run_once(str(bad)), "bad.yaml:1:", "generate")

    assert table_of(product.read()) == GOOD


def test_strict_does_not_start_with_a_bad_flow_file(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, GOOD)
    bad = product.folder / "bad.yaml"
    bad.write_text("flow: {name: bad}")

    failed(product.run_once("--strict", str(bad)), "bad.yaml")

    assert not product.exists()


def test_a_failing_source_is_tried_again_at_the_next_tick(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = Product(tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique, interval="200ms")

    with product.running() as worker:
        worker.wait_for("reason=NotFound", count=2)
        oras.push(product.artifact, GOOD)
        product.wait_for_pulls(1)
        worker.end()

    assert table_of(product.read()) == GOOD


def test_a_single_run_refuses_to_join_a_group_that_is_at_work(product: Product, oras: Oras) -> None:
    oras.push(product.artifact, GOOD)

    with product.running() as worker:
        product.wait_for_pulls(1)
        failed(product.run_once(), f"g-{product.name}", "live members", "--join")
        worker.end()


def test_while_a_registry_is_down_the_status_says_what_the_tick_is_waiting_for(
    product: Product, oras: Oras, registry: Registry
) -> None:
    address = f"127.0.0.1:{free_port()}"
    worker = json.loads(product.worker_file.read_text())
    product.worker_file.write_text(json.dumps({**worker, "http": {"address": address}}))
    oras.push(product.artifact, GOOD)
    with product.running() as running:
        product.wait_for_pulls(1)
        registry.stop()
        running.wait_for("attempt 3 of", seconds=30)
        told = product.call("status", "-o", "json").stdout
        registry.start()

    (source,) = json.loads(told)["sources"]
    messages = " ".join(condition["message"] for condition in source["conditions"])
    assert registry.host in messages
    assert "follows after" in messages
