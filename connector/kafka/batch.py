"""All of some records or none, by a producer that its transactional id fences: for a topic that one sink writes.

It is not the source half's transaction: no group offset binds it to a membership. Whoever initialises the id last wins,
and an older writer with the same id is refused; so it serves writers whose work may be done again.
"""

from collections.abc import Sequence
from time import monotonic

from confluent_kafka import KafkaError, KafkaException, Message

from connector.kafka.attempt import abort, behind_delivery, close, hand_over, initialise, repeat
from connector.kafka.clients import Clients, kafka_error_of
from connector.kafka.record import Record
from connector.kafka.transaction import check_sizes

_SECONDS = 60.0


async def commit_batch(
    clients: Clients, transactional_id: str, records: Sequence[Record], limit: int | None, doing: str
) -> None:
    """Commit the records. `limit` is the topic's max.message.bytes. Raises OutputError; then none is visible."""
    check_sizes(records, {record.topic: limit for record in records})
    await clients.call(_commit, clients, transactional_id, records, limit, doing)


def _commit(clients: Clients, transactional_id: str, records: Sequence[Record], limit: int | None, doing: str) -> None:
    deadline = monotonic() + _SECONDS
    most = limit or 1_000_000
    producer = clients.producer(transactional_id, most, most, {"transaction.timeout.ms": int(_SECONDS * 1000)})
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    try:
        initialise(clients, producer, transactional_id)
        repeat(clients, doing, deadline, producer.begin_transaction)
        try:
            for record in records:
                hand_over(producer, record, delivered, deadline)
                producer.poll(0)
            producer.flush(max(0.1, deadline - monotonic()))  # the commit flushes what is left
            if failed:
                raise clients.error(doing, behind_delivery(producer, failed[0]))
        except KafkaException as error:
            abort(producer)
            raise clients.error(doing, kafka_error_of(error)) from error
        except BaseException:
            abort(producer)
            raise
        repeat(clients, doing, deadline, lambda: producer.commit_transaction(max(0.1, deadline - monotonic())))
    finally:
        close(producer)
