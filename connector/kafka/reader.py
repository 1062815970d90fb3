"""Read a topic from its beginning, committed records only, without a group: for people and for readers of state.

Rules. (1) Each partition comes in order; partitions interleave. (2) Without `follow` the reading ends when the position
of each partition reached the last stable offset of the moment it began, so an open transaction never makes it wait.
(3) A client that finds no broker any more, though others do, is replaced where it stood.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connector.errors import OutputError
from connector.kafka.changelog import NO_GROUP, record_of
from connector.kafka.clients import Clients, kafka_error_of
from connector.kafka.record import Record
from connector.kafka.stranding import PATIENCE_SECONDS, Stranding
from connector.kafka.topics import Topics

_BATCH = 500
_POLL_SECONDS = 0.05
# `assign` only: the group is named because librdkafka wants one; nothing is ever committed under it.
_GROUP = "oci-sync-reader"
_PASSED_OVER = (KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, NO_GROUP)


class TopicReader:
    """One reading of a topic; `async with` closes its consumer."""

    def __init__(
        self, clients: Clients, topics: Topics, topic: str, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._clients = clients
        self._stranding = Stranding(clients, patience_seconds)
        self._topics = topics
        self._topic = topic
        self._consumer: Consumer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (consumer := self._consumer) is not None:
            self._consumer = None
            await self._clients.call(consumer.close)

    async def batches(self, *, follow: bool = False) -> AsyncIterator[Sequence[Record]]:
        """Records in batches; ends at what was stable when it began, or never with `follow`.

        Raises OutputError TopicMissing, KafkaUnreachable, NotAuthorized.
        """
        found = (await self._topics.describe([self._topic])).get(self._topic)
        if found is None:
            raise OutputError(
                reason="TopicMissing",
                doing=f"reading topic {self._topic}",
                cause=f"the cluster at {self._clients.bootstrap} has no such topic",
                remedy="check the name (a flow's topic is oci.<flow name>), or run the flow once",
            )
        partitions = list(range(found.partitions))
        ends = await self._topics.end_offsets(self._topic, partitions, committed=True)
        starts = await self._topics.start_offsets(self._topic, partitions)
        consumer = await self._clients.call(self._consumer_at, starts)
        # An empty partition never gets a position, so it is not waited for.
        waiting = {partition for partition in partitions if starts[partition] < ends[partition]}
        while follow or waiting:
            records, positions = await self._clients.call(self._poll, consumer, partitions)
            waiting = {partition for partition in waiting if positions[partition] < ends[partition]}
            if records:
                yield records
            elif await self._clients.call(self._stranding.found, consumer, self._topic):
                await self._clients.call(consumer.close)
                # Without a record a position is negative.
                places = {partition: max(positions[partition], starts[partition]) for partition in partitions}
                consumer = await self._clients.call(self._consumer_at, places)
                self._stranding.renew()

    def _consumer_at(self, places: Mapping[int, int]) -> Consumer:
        consumer = self._consumer = self._clients.consumer(
            _GROUP, {"auto.offset.reset": "earliest", "enable.partition.eof": True, "fetch.wait.max.ms": 50}
        )
        consumer.assign([TopicPartition(self._topic, partition, place) for partition, place in places.items()])
        return consumer

    def _poll(self, consumer: Consumer, partitions: Sequence[int]) -> tuple[list[Record], dict[int, int]]:
        records: list[Record] = []
        try:
            for message in consumer.consume(_BATCH, _POLL_SECONDS):
                error = message.error()
                if error is None:
                    records.append(record_of(message))
                elif error.code() not in _PASSED_OVER and not error.retriable():
                    raise self._clients.error(f"reading topic {self._topic}", error)
            positions = consumer.position([TopicPartition(self._topic, partition) for partition in partitions])
        except KafkaException as error:
            raise self._clients.error(f"reading topic {self._topic}", kafka_error_of(error)) from error
        return records, {at.partition: at.offset for at in positions}
