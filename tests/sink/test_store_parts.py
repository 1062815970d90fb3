"""What the fields of every store refuse before anything is reached, and what another cluster is told."""

import pytest
from pydantic import BaseModel, ValidationError

from connector.kafka.clients import Property
from connector.sink.store_parts import check_url
from connector.sink.tasks.kafka_topic_store import properties_of
from connector.sink.tasks.nats_kv_store import Fields as NatsFields
from connector.sink.tasks.redis_store import Fields as RedisFields

NATS = {"name": "s", "bucket": "b"}
REDIS = {"name": "s"}


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        (NatsFields, NATS | {"url": "nats://127.0.0.1:99999"}),
        (NatsFields, NATS | {"url": "nats://127.0.0.1:port"}),
        (NatsFields, NATS | {"url": "http://127.0.0.1:4222"}),
        (NatsFields, NATS | {"url": "nats://me:secret@127.0.0.1:4222"}),
        (RedisFields, REDIS | {"url": "redis://127.0.0.1:99999"}),
        (RedisFields, REDIS | {"url": "redis://127.0.0.1:port"}),
        (RedisFields, REDIS | {"url": "redis://:secret@127.0.0.1:6379"}),
    ],
)
def test_an_address_that_cannot_be_is_an_error_of_its_field_and_shows_no_secret(
    fields: type[BaseModel], given: dict[str, str]
) -> None:
    with pytest.raises(ValidationError) as raised:
        fields.model_validate(given)

    (error,) = raised.value.errors()
    assert error["loc"] == ("url",)
    assert "secret" not in error["msg"]


@pytest.mark.parametrize("url", ["nats://[::1]:4222", "tls://nats.example.com", "nats://nats.example.com:0"])
def test_an_address_of_a_scheme_that_is_known_is_taken(url: str) -> None:
    check_url(url, ("nats", "tls"))


def test_another_cluster_is_not_told_how_this_worker_logs_in() -> None:
    worker: dict[str, Property] = {
        "bootstrap.servers": "ours:9092",
        "security.protocol": "SASL_SSL",
        "sasl.password": "ours",
        "ssl.ca.location": "/ca.pem",
        "linger.ms": 5,
    }

    theirs = properties_of(worker, {"bootstrap.servers": "theirs:9092", "sasl.mechanism": "PLAIN"})
    same = properties_of(worker, {"linger.ms": 20})

    assert theirs == {"bootstrap.servers": "theirs:9092", "sasl.mechanism": "PLAIN", "linger.ms": 5}
    assert same == {**worker, "linger.ms": 20}
