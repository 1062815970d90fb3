"""A member of a group in memory, for `kafka.ownership`: what the client does at each poll is a list."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connector.errors import OutputError

GROUP_METADATA = b"CGMDv2:" + (3).to_bytes(4, "little") + b"group\0member\0\0"


class Message:
    """An error, as the client hands it out."""

    def __init__(self, error: KafkaError) -> None:
        self._error = error

    def error(self) -> KafkaError:
        return self._error


Turn: TypeAlias = Message | Exception | frozenset[int] | Callable[[], None]
"""What a poll does: hand out an error, raise, assign partitions in place of those before, call the test."""


class Consumer:
    """Takes one turn a poll; afterwards it polls nothing for ever."""

    def __init__(self, *turns: Turn, metadata: bytes = GROUP_METADATA) -> None:
        self.turns = list(turns)
        self.is_closed = self.is_stranded = False
        self._topic = ""
        self._metadata = metadata
        self._callbacks: dict[str, Any] = {}
        self._assigned: Sequence[TopicPartition] = ()

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        (self._topic,) = topics
        self._callbacks = callbacks

    def poll(self, seconds: float) -> Message | None:
        turn = self.turns.pop(0) if self.turns else None
        if isinstance(turn, Exception):
            raise turn
        if isinstance(turn, frozenset):
            if self._assigned:
                self._callbacks["on_revoke"](self, self._assigned)
            self._assigned = [TopicPartition(self._topic, number) for number in sorted(turn)]
            self._callbacks["on_assign"](self, self._assigned)
        elif callable(turn):
            turn()
        return turn if isinstance(turn, Message) else None

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        pass

    def unassign(self) -> None:
        pass

    def consumer_group_metadata(self) -> bytes:
        return self._metadata

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        if self.is_stranded:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(brokers={1: "a broker"})

    def close(self) -> None:
        self.is_closed = True


class Clients:
    """What a member asks of `connector.kafka.clients.Clients`."""

    name = client_id = "oci-sync-test"

    def __init__(self, *consumers: Consumer) -> None:
        self.is_down = False
        self.times_down = 0
        self._consumers = list(consumers)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    def consumer(self, group: str, properties: Mapping[str, Any]) -> Consumer:
        return self._consumers.pop(0)

    def admin(self) -> Consumer:
        """A new client, which reaches the cluster."""
        return Consumer()

    def error(self, doing: str, error: KafkaError) -> OutputError:
        return OutputError(reason="KafkaRefused", doing=doing, cause=error.str(), remedy="none")

    def heard_from_broker(self) -> None:
        pass
