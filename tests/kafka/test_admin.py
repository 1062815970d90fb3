"""An admin client is thrown away once it reached nobody."""

import gc
import weakref
from typing import Any

from confluent_kafka import KafkaError

from connector.errors import OutputError
from connector.kafka.admin import Admin
from connector.kafka.clients import output_error


class Client:
    def poll(self, seconds: float) -> None:
        pass


class Clients:
    """What Admin asks of `Clients`."""

    bootstrap = "broker:9092"

    def __init__(self) -> None:
        self.times_down = 0

    def admin(self) -> Client:
        return Client()

    def error(self, doing: str, error: KafkaError) -> OutputError:
        return output_error(doing, error)


def _admin() -> tuple[Admin, Any]:
    clients: Any = Clients()
    return Admin(clients), clients


def test_a_client_that_reached_nobody_is_replaced() -> None:
    admin, _ = _admin()
    first = admin.client

    assert admin.error("asking", KafkaError(KafkaError._TIMED_OUT)).reason == "KafkaUnreachable"
    assert admin.client is not first


def test_a_client_that_was_refused_something_is_kept() -> None:
    admin, _ = _admin()
    first = admin.client

    assert admin.error("asking", KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)).reason == "NotAuthorized"
    assert admin.client is first


def test_a_call_that_ended_with_the_client_of_another_says_why_that_one_was_thrown_away() -> None:
    admin, _ = _admin()
    admin.error("asking", KafkaError(KafkaError._TRANSPORT))
    second = admin.client

    error = admin.error("asking too", KafkaError(KafkaError._DESTROY))

    assert (error.reason, error.transient) == ("KafkaUnreachable", True)
    assert "_TRANSPORT" in str(error)
    assert admin.client is second


def test_a_client_that_was_made_before_brokers_were_lost_is_not_asked_again() -> None:
    admin, clients = _admin()
    first = admin.client
    assert admin.client is first

    clients.times_down += 1

    second = admin.client
    assert second is not first
    assert admin.client is second


def test_what_a_replaced_client_was_asked_may_still_be_answered_until_one_reached_nobody() -> None:
    admin, clients = _admin()
    first = weakref.ref(admin.client)
    clients.times_down += 1
    second = weakref.ref(admin.client)

    assert first() is not None

    admin.error("asking", KafkaError(KafkaError._TIMED_OUT))
    gc.collect()
    assert first() is second() is None
