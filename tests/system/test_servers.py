"""The servers the other system tests stand on do what those tests take for granted."""

import urllib.error
import urllib.request
from base64 import b64encode
from hashlib import sha256

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.system.servers import HTPASSWD_PASSWORD, HTPASSWD_USER, Broker, Cluster, Nats, Oras, Registry, Tool

pytestmark = pytest.mark.system


def _create_topic(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1)])[name].result(timeout=20)


def _produce(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value=value)
    assert producer.flush(20) == 0


def _consume_one(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        message = consumer.poll(20)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def test_a_record_survives_a_crash_of_the_broker(kafka: Broker, unique: str) -> None:
    _create_topic(kafka.bootstrap, unique)
    _produce(kafka.bootstrap, unique, b"kept")

    kafka.kill()
    kafka.start()

    assert _consume_one(kafka.bootstrap, unique) == b"kept"


def test_three_brokers_serve_while_one_is_dead(kafka_cluster: Cluster, unique: str) -> None:
    _create_topic(kafka_cluster.bootstrap, unique)

    kafka_cluster.kill(1)
    _produce(kafka_cluster.bootstrap, unique, b"by two")

    assert _consume_one(kafka_cluster.bootstrap, unique) == b"by two"


def test_what_oras_pushed_crane_finds(registry: Registry, oras: Oras, crane: Tool, unique: str) -> None:
    reference = f"{registry.host}/{unique}:v1"

    digest = oras.push(reference, {"etc/app.yaml": "level: debug\n"})

    assert crane("digest", "--insecure", reference).strip() == digest


def test_both_generations_of_the_registry_give_one_digest(
    registry: Registry, registry_v2: Registry, oras: Oras, skopeo: Tool, unique: str
) -> None:
    old, new = f"{registry_v2.host}/{unique}:v1", f"{registry.host}/{unique}:v1"
    digest = oras.push(new, {"a.txt": "one"})

    oras("cp", "--from-plain-http", "--to-plain-http", "--no-tty", new, old)

    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{old}")
    assert f"sha256:{sha256(raw.encode()).hexdigest()}" == digest


def test_kcat_reads_what_was_produced(kafka: Broker, kcat: Tool, unique: str) -> None:
    _create_topic(kafka.bootstrap, unique)
    _produce(kafka.bootstrap, unique, b"for kcat")

    assert kcat("-b", kafka.bootstrap, "-t", unique, "-C", "-e", "-q") == "for kcat\n"


def test_the_registry_with_users_refuses_strangers(registry_htpasswd: Registry) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{registry_htpasswd.url}/v2/", timeout=10)


def test_the_registry_with_users_lets_its_user_in(registry_htpasswd: Registry) -> None:
    credentials = b64encode(f"{HTPASSWD_USER}:{HTPASSWD_PASSWORD}".encode()).decode()
    request = urllib.request.Request(f"{registry_htpasswd.url}/v2/", headers={"Authorization": f"Basic {credentials}"})

    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


async def test_nats_keeps_a_value_in_a_bucket(nats: Nats, unique: str) -> None:
    import nats as client

    connection = await client.connect(nats.url)
    try:
        bucket = await connection.jetstream().create_key_value(bucket=unique)
        await bucket.put("level", b"debug")
        assert (await bucket.get("level")).value == b"debug"
    finally:
        await connection.close()
