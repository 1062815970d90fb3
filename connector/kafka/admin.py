"""The admin client, and a new one after each failure to reach the cluster, its own or another client's.

Why. A client that was told of no broker, by one that is fenced or just comes back, may never look for one again
(librdkafka #5301); and a late answer for a group that was asked for too early ends the process by an assertion (its
#4605). A client that is thrown away does neither, and a new one costs a connection.
"""

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from connector.errors import OutputError
from connector.kafka.clients import Clients


class Admin:
    """Holds one admin client of the cluster; to be used from the event loop's thread."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._client: AdminClient | None = None
        self._former: AdminClient | None = None
        self._times_down = 0
        self._dropped_for: KafkaError | None = None

    def __repr__(self) -> str:
        return f"<Admin {'connected' if self._client else 'idle'} {self._clients.bootstrap}>"

    @property
    def client(self) -> AdminClient:
        """The client of the moment. Never keep it: a failure ends it, and what else it was asked with it."""
        times_down = self._clients.times_down
        if self._client is None or times_down != self._times_down:
            # The one before lives until the next: what it was asked may still be answered.
            self._former, self._client = self._client, self._clients.admin()
            self._times_down = times_down
        return self._client

    def error(self, doing: str, error: KafkaError) -> OutputError:
        """The OutputError for what a call of the client said. The client is thrown away if it reached nobody."""
        if error.code() == KafkaError._DESTROY and self._dropped_for is not None:
            return self._clients.error(doing, self._dropped_for)  # thrown away for another call that failed
        if self._client is not None:
            self._client.poll(0)  # an admin client tells why only when it is asked
        told = self._clients.error(doing, error)
        if told.reason == "KafkaUnreachable":
            self._client = self._former = None
            self._dropped_for = error
        return told
