"""`delivery: at_least_once`: for clusters that forbid transactions. Records first, each acknowledged, then the offset.

What it gives up, and says at start: nothing is fenced, a reader may meet a part of a pull, and a pull that was cut is
sent again whole. What stays: an idempotent producer, sizes checked before anything is sent, no offset without its
records, and readers that assemble complete snapshots never see a wrong one.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connector import faults
from connector.kafka.attempt import Prover, close, hand_over
from connector.kafka.clients import Clients, kafka_error_of
from connector.kafka.membership import not_owner
from connector.kafka.record import Record
from connector.kafka.topics import Place
from connector.kafka.transaction import Committed, batch_limit, check_sizes, client_limit

_LOG = logging.getLogger(__name__)

_SECONDS = 60.0


class AcknowledgedWrites:
    """The same calls as Transactions, without transactions. One pull of a partition at a time."""

    def __init__(self, clients: Clients, prover: Prover, *, partition: int) -> None:
        self._clients = clients
        self._prover = prover
        self._partition = partition
        self._lock = asyncio.Lock()
        self._stopped = False
        self.in_doubt = False

    def __repr__(self) -> str:
        return f"<AcknowledgedWrites {self._partition}>"

    def restored(self) -> None:
        """Begin anew: nothing is ever in doubt, for what was not acknowledged is sent again."""
        self._stopped = False

    async def initialise(self, limits: Mapping[str, int | None]) -> None:
        """Nothing is left open by anybody, so there is nothing to end."""

    async def end_hanging(self, places: Sequence[Place], limits: Mapping[str, int | None]) -> None:
        """There are no transactions of ours."""

    async def discard(self) -> None:
        """Nothing was made ready."""

    async def commit(
        self, records: Iterable[Record], offset: Record, position: int, limits: Mapping[str, int | None]
    ) -> Committed:
        """Write `records`, wait until each is acknowledged, then write `offset`. Raises OutputError.

        After an error some records may be visible; the offset is not, so the next tick sends the pull again.
        """
        async with self._lock:
            started = monotonic()
            count, size = await self._clients.call(check_sizes, records, limits, offset)
            # Not bound to the write, but it keeps a worker that knows it is out of date from writing at all.
            self._prover.fence({self._partition: position})
            doing = f"writing {count - 1} records of {offset.key.decode('utf-8', 'replace')}"
            writing = asyncio.ensure_future(self._clients.call(self._write, records, offset, limits, doing))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                self._stopped = True
                await asyncio.wait([writing], timeout=_SECONDS)
                if writing.done() and not writing.cancelled():
                    _LOG.info("%s before the partition was given up: %s", doing, writing.exception() or "written")
                raise
            return Committed(count, size, monotonic() - started)

    def _write(self, records: Iterable[Record], offset: Record, limits: Mapping[str, int | None], doing: str) -> None:
        producer = self._clients.plain_producer(client_limit(limits), batch_limit(limits))
        deadline = monotonic() + _SECONDS
        try:
            self._send(producer, records, deadline, doing)
            faults.passing("records_sent")
            if self._stopped:
                raise not_owner("the partition was revoked while its records were being sent")
            self._send(producer, [offset], deadline, doing)
            faults.passing("committed")
        finally:
            close(producer)

    def _send(self, producer: Producer, records: Iterable[Record], deadline: float, doing: str) -> None:
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        try:
            for record in records:
                hand_over(producer, record, delivered, deadline)
                del record  # or it would be there while the next one is made
                producer.poll(0)
                if failed or self._stopped:
                    break
            left = producer.flush(max(0.1, deadline - monotonic()))
        except KafkaException as error:
            raise self._clients.error(doing, kafka_error_of(error)) from error
        if left:
            failed.append(KafkaError(KafkaError._TIMED_OUT, f"{left} records were not acknowledged"))
        if failed:
            raise self._clients.error(doing, failed[0])
