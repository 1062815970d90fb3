"""Write single records outside of any transaction: requests and notices, which change nothing by themselves."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message

from connector.kafka.clients import Clients, kafka_error_of
from connector.kafka.record import Record

_SECONDS = 15.0


async def post(clients: Clients, records: Sequence[Record], doing: str) -> None:
    """Write the records, acknowledged by all replicas. Raises OutputError KafkaUnreachable, NotAuthorized, …"""
    await clients.call(_post, clients, records, doing)


def _post(clients: Clients, records: Sequence[Record], doing: str) -> None:
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = clients.plain_producer()
    try:
        for record in records:
            producer.produce(
                record.topic, value=record.value, key=record.key, partition=record.partition, on_delivery=delivered
            )
        left = producer.flush(_SECONDS)
    except KafkaException as error:
        raise clients.error(doing, kafka_error_of(error)) from error
    if left:
        producer.purge()
        failed.append(KafkaError(KafkaError._TIMED_OUT, f"not acknowledged within {_SECONDS:.0f} s"))
    if failed:
        raise clients.error(doing, failed[0])
