import pytest
from confluent_kafka import KafkaError

from connector.errors import ConfigError, OutputError
from connector.kafka.clients import Clients, Property, check_properties, output_error, ready_soon


@pytest.mark.parametrize("name", ["transactional.id", "group.id", "isolation.level", "enable.auto.commit"])
def test_a_property_that_carries_a_promise_cannot_be_set(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        check_properties({"bootstrap.servers": "b:9092", name: "x"})


async def test_a_property_that_librdkafka_does_not_know_is_a_clear_error() -> None:
    async with Clients({"bootstrap.servers": "127.0.0.1:1", "botstrap": "x"}) as clients:
        with pytest.raises(ConfigError, match="botstrap") as caught:
            clients.admin()

    assert caught.value.reason == "BadValue"


def test_workers_that_share_a_client_id_of_the_user_keep_names_of_their_own() -> None:
    one, two = (Clients({"client.id": "ours"}, name) for name in ("oci-sync-one", "oci-sync-two"))

    assert (one.name, two.name) == ("oci-sync-one", "oci-sync-two")
    assert one.client_id == two.client_id == "ours"


@pytest.mark.parametrize(
    ("code", "reason", "transient"),
    [
        (KafkaError._TRANSPORT, "KafkaUnreachable", True),
        (KafkaError._TIMED_OUT, "KafkaUnreachable", True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "NotAuthorized", False),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "NotAuthorized", False),
        (KafkaError._FENCED, "Fenced", True),
        (KafkaError.ILLEGAL_GENERATION, "NotOwner", True),
        (KafkaError.UNKNOWN_MEMBER_ID, "NotOwner", True),
        (KafkaError.MSG_SIZE_TOO_LARGE, "RecordTooLarge", False),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "TopicMissing", False),
    ],
)
def test_each_code_has_the_reason_a_user_can_act_on(code: int, reason: str, transient: bool) -> None:
    error = output_error("committing", KafkaError(code), "b:9092")

    assert (error.reason, error.transient) == (reason, transient)
    assert isinstance(error, OutputError)


def test_a_refused_password_is_told_from_a_broker_that_does_not_answer() -> None:
    refused = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: Authentication failed")

    error = output_error("asking for topics", KafkaError(KafkaError._TIMED_OUT), "b:9092", refused)

    assert error.reason == "NotAuthorized"
    assert "Authentication failed" in str(error)


def test_an_unauthorized_worker_is_told_the_acls_it_needs() -> None:
    error = output_error("committing", KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    assert "TransactionalId" in error.remedy
    assert "Group" in error.remedy


def test_clients_of_a_small_cluster_connect_to_every_broker_at_once() -> None:
    assert ready_soon(5)["enable.sparse.connections"] is False
    assert "enable.sparse.connections" not in ready_soon(6)
    assert "enable.sparse.connections" not in ready_soon(None)


async def test_what_the_user_says_of_connecting_wins() -> None:
    properties: dict[str, Property] = {"bootstrap.servers": "127.0.0.1:1", "reconnect.backoff.max.ms": 10}
    async with Clients(properties) as clients:
        with pytest.raises(ConfigError, match=r"reconnect\.backoff"):  # it is below ours
            clients.admin()
    async with Clients({**properties, "reconnect.backoff.ms": 10}) as clients:
        clients.admin()
