"""Notice that a client which lost every broker never finds one again, so that its owner makes a new one.

librdkafka forgets all brokers that an answer does not name. A broker that is fenced, as each is for a moment after a
long pause, names none, and the client may then have nobody left to ask, for ever (its #5301). What tells such a client
from one in an outage: a new client reaches the cluster.
"""

from time import monotonic

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from connector.kafka.clients import Clients

_ASK_SECONDS = 2.0
# Longer than a client waits between two attempts to connect (reconnect.backoff.max.ms, 10 s by default).
PATIENCE_SECONDS = 15.0
_ASKS = 5  # in that time


class Stranding:
    """What is known of one consumer; to be used from the thread that polls it.

    `in_doubt`: since the consumer last reached a broker, some client of this process lost all of its own.
    """

    def __init__(self, clients: Clients, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._clients = clients
        self._patience_seconds = patience_seconds
        self._others_reach_since: float | None = None
        self.renew()

    def renew(self) -> None:
        """The consumer was replaced: nothing is held against the new one."""
        self._proven = self._clients.times_down
        self._next_ask = 0.0
        self._others_reach_since = None

    @property
    def in_doubt(self) -> bool:
        """See the class."""
        return self._clients.times_down != self._proven

    def found(self, consumer: Consumer, topic: str) -> bool:
        """Whether the consumer is stranded. Costs nothing without doubt, a request with it, seconds in an outage."""
        now = monotonic()
        if not self.in_doubt or now < self._next_ask:
            return False
        times_down = self._clients.times_down
        if reaches(consumer, topic):
            self._proven, self._others_reach_since = times_down, None
            self._clients.heard_from_broker()
            return False
        if not reaches(self._clients.admin()):  # all topics: an admin client that asks for a missing one creates it
            self._others_reach_since = None
        elif self._others_reach_since is None:
            self._others_reach_since = now
        self._next_ask = monotonic() + self._patience_seconds / _ASKS
        since = self._others_reach_since
        return since is not None and now - since >= self._patience_seconds


def reaches(client: Consumer | AdminClient, topic: str | None = None) -> bool:
    """Whether a broker answers the client within two seconds and names at least one broker."""
    try:
        return bool(client.list_topics(topic, timeout=_ASK_SECONDS).brokers)
    except KafkaException:
        return False
