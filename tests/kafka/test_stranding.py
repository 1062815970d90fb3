"""When a client counts as stranded: it reaches no broker, and a new one does."""

from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from connector.kafka.stranding import Stranding


class Client:
    """Answers as the test says: with so many brokers, or None for not at all."""

    def __init__(self, brokers: int | None) -> None:
        self.brokers = brokers
        self.asked = 0
        self.asked_for: str | None = ""

    def list_topics(self, topic: str | None, timeout: float) -> SimpleNamespace:
        self.asked += 1
        self.asked_for = topic
        if self.brokers is None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(brokers=dict.fromkeys(range(self.brokers), "a broker"))


class Clients:
    """What Stranding asks of `Clients`; `others` is what a new client is answered."""

    def __init__(self, others: int | None) -> None:
        self.new = Client(others)
        self.times_down = 0
        self.heard = 0

    def admin(self) -> Client:
        return self.new

    def heard_from_broker(self) -> None:
        self.heard += 1


def _watched(own: int | None, others: int | None, patience_seconds: float = 0) -> tuple[Stranding, Any, Any]:
    clients: Any = Clients(others)
    stranding = Stranding(clients, patience_seconds)
    clients.times_down += 1
    return stranding, clients, Client(own)


def test_nobody_is_asked_while_no_client_lost_its_brokers() -> None:
    client: Any = Client(None)
    clients: Any = Clients(1)

    assert not Stranding(clients, 0).found(client, "t")
    assert client.asked == 0


def test_a_client_that_is_answered_is_beyond_doubt_until_brokers_are_lost_again() -> None:
    stranding, clients, client = _watched(own=1, others=1)

    assert [stranding.found(client, "t") for _ in range(3)] == [False] * 3
    assert (client.asked, clients.heard, stranding.in_doubt) == (1, 1, False)

    client.brokers = None
    clients.times_down += 1
    assert stranding.found(client, "t")


@pytest.mark.parametrize("nothing", [None, 0])
def test_in_an_outage_nobody_is_stranded(nothing: int | None) -> None:
    stranding, _, client = _watched(own=nothing, others=nothing)

    assert [stranding.found(client, "t") for _ in range(3)] == [False] * 3
    assert stranding.in_doubt


@pytest.mark.parametrize("nothing", [None, 0])
def test_a_client_is_stranded_that_knows_no_broker_where_a_new_one_does(nothing: int | None) -> None:
    stranding, clients, client = _watched(own=nothing, others=1)

    assert stranding.found(client, "t")
    assert client.asked_for == "t"
    assert clients.new.asked_for is None  # a broker may create a topic that an admin client asks for


def test_nothing_is_held_against_a_client_that_took_the_place_of_a_stranded_one() -> None:
    stranding, _, client = _watched(own=None, others=1)
    assert stranding.found(client, "t")

    stranding.renew()

    assert not stranding.in_doubt
    assert not stranding.found(client, "t")


def test_a_client_is_given_time_to_connect_again_before_it_counts_as_stranded() -> None:
    stranding, clients, client = _watched(own=None, others=1, patience_seconds=0.2)

    assert not stranding.found(client, "t")
    assert not stranding.found(client, "t")
    assert client.asked == 1  # not at each poll
    client.brokers = 1
    for _ in range(100):
        assert not stranding.found(client, "t")
        sleep(0.002)
    assert not stranding.in_doubt
    assert clients.heard == 1
