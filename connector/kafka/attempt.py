"""One transaction on one initialised producer, from begin to commit or abort; blocking, for a thread of its own.

Rules. (1) Any exception between begin and commit aborts. (2) What librdkafka calls retriable is the same call again,
until the deadline; a commit that was begun is never turned into an abort. (3) A commit whose outcome nobody knows ends
in OutcomeUnknown: who owns the partition settles it (`transaction.py`).
"""

import logging
import threading
import warnings
from collections.abc import Callable, Iterable
from itertools import count
from time import monotonic
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from connector import faults
from connector.errors import OutputError
from connector.kafka.clients import Clients, kafka_error_of
from connector.kafka.membership import Fence, not_owner
from connector.kafka.record import Record
from connector.kafka.topics import Place

_LOG = logging.getLogger(__name__)

# What a fenced producer says when it is closed; we have told its error already.
warnings.filterwarnings("ignore", message="Producer abort_transaction failed during close")

Delivered = Callable[[KafkaError | None, Message], None]

_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
_LARGE_BYTES = 4 * 1024 * 1024
_VERY_LARGE_BYTES = 12 * 1024 * 1024
_INIT_SECONDS = 30.0
_ABORT_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
_BIND_SECONDS = 15.0
_POLL_EVERY = 256
# The key of records that no reader of committed records ever sees.
_NOTHING = b"oci-sync.aborted"


class Prover(Protocol):
    """Who proves that this worker may write now: `Ownership`."""

    def fence(self, positions: dict[int, int]) -> Fence:
        """Raises OutputError NotOwner."""
        ...


class OutcomeUnknown(Exception):
    """The commit was sent, and no answer says whether it took place."""

    def __init__(self, error: OutputError) -> None:
        super().__init__(str(error))
        self.error = error


class Attempt:
    """What one transaction is made of; `run` once. `positions` are the restored positions the fence is bound to."""

    def __init__(
        self,
        clients: Clients,
        producer: Producer,
        prover: Prover,
        positions: dict[int, int],
        doing: str,
        timeout_seconds: float,
    ) -> None:
        self._clients = clients
        self._producer = producer
        self._prover = prover
        self._positions = positions
        self._doing = doing
        self._deadline = monotonic() + timeout_seconds
        self._stop = threading.Event()
        self.is_begun = False

    @property
    def is_stopped(self) -> bool:
        """Whether somebody wants it to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Abort unless the commit has been begun; from any thread."""
        self._stop.set()

    def run(self, records: Iterable[Record]) -> None:
        """Produce, bind to the membership of this moment, commit. Raises OutputError, OutcomeUnknown."""
        self._until(self._producer.begin_transaction)
        self.is_begun = True
        faults.passing("transaction_begun")
        try:
            self._produce(records)
            faults.passing("records_sent")
            self._bind()
            faults.passing("offsets_sent")
            if self._stop.is_set():
                raise not_owner("the partition was revoked before the commit")
        except (KafkaException, SystemError) as raised:  # of poll and flush, when the producer was fenced meanwhile
            abort(self._producer)
            behind = _behind(raised)
            if behind is None:
                raise
            raise self._clients.error(self._doing, behind) from raised
        except BaseException:
            abort(self._producer)
            raise
        self._commit()
        faults.passing("committed")

    def _produce(self, records: Iterable[Record]) -> None:
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None and not failed:
                failed.append(error)

        turn = count()
        for record in records:  # no enumerate, which holds a record while the next one is made
            if self._stop.is_set():
                raise not_owner("the partition was revoked while its records were being sent")
            hand_over(self._producer, record, delivered, self._deadline)
            del record
            if next(turn) % _POLL_EVERY == 0:
                self._producer.poll(0)
            if failed:
                raise self._clients.error(self._doing, behind_delivery(self._producer, failed[0]))
        # The commit would flush too; flushing here tells a refused record from a refused offset.
        self._producer.flush(self._left())
        if failed:
            raise self._clients.error(self._doing, behind_delivery(self._producer, failed[0]))

    def _bind(self) -> None:
        # Read now and not before: a membership that was current at the download may be an old generation's.
        proof = self._prover.fence(self._positions)
        offsets = [TopicPartition(*offset) for offset in proof.offsets]
        # The call may be repeated and aborted; it was seen to hang when its coordinator vanished (librdkafka #5511).
        wait = min(self._left(), _BIND_SECONDS)
        self._until(lambda: self._producer.send_offsets_to_transaction(offsets, proof.metadata, wait))

    def _commit(self) -> None:
        while True:
            try:
                self._producer.commit_transaction(self._left())
            except KafkaException as raised:
                error = kafka_error_of(raised)
                if error.txn_requires_abort():
                    abort(self._producer)
                    raise self._clients.error(self._doing, error) from raised
                if error.retriable() and monotonic() < self._deadline:
                    continue
                raise OutcomeUnknown(self._clients.error(self._doing, error)) from raised
            else:
                return

    def _left(self) -> float:
        return max(0.1, self._deadline - monotonic())

    def _until(self, function: Callable[[], object]) -> None:
        repeat(self._clients, self._doing, self._deadline, function)


def hand_over(producer: Producer, record: Record, delivered: Delivered, deadline: float) -> None:
    """Give one record to the producer; waits while its queue, which bounds the memory of many records, is full.

    The producer has a copy of it. So a large one waits until those before it are sent, and is sent itself while the
    caller makes the next; a very large one is waited for, since there is no room for both.
    `delivered` is called by a poll or flush, for what failed only. Raises KafkaException when the queue stays full
    until the deadline.
    """
    size_bytes = len(record.value or b"")
    if size_bytes > _LARGE_BYTES:
        producer.flush(max(0.1, deadline - monotonic()))
    while True:
        try:
            producer.produce(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
                on_delivery=delivered,
            )
        except BufferError:
            if monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the producer's queue stays full")) from None
            producer.poll(0.05)
        else:
            break
    if size_bytes > _VERY_LARGE_BYTES:
        producer.flush(max(0.1, deadline - monotonic()))


def initialise(clients: Clients, producer: Producer, transactional_id: str) -> None:
    """Initialise a producer, which aborts what another one with this id left open. Raises OutputError."""
    deadline = monotonic() + _INIT_SECONDS
    repeat(
        clients,
        f"initialising transactional producer {transactional_id}",
        deadline,
        lambda: producer.init_transactions(max(0.1, deadline - monotonic())),
    )
    clients.heard_from_broker()


def repeat(clients: Clients, doing: str, deadline: float, function: Callable[[], object]) -> None:
    """Call again while librdkafka says that the same call may be repeated, until the deadline. Raises OutputError."""
    while True:
        try:
            function()
        except KafkaException as raised:
            error = kafka_error_of(raised)
            if error.retriable() and monotonic() < deadline:
                continue
            raise clients.error(doing, error) from raised
        else:
            return


def _behind(raised: BaseException) -> KafkaError | None:
    """The KafkaError of an exception, or of the one it hides.

    A fatal error and a delivery report in one poll make the client call our callback with its exception already set;
    Python then reports a SystemError, with the KafkaException as its cause.
    """
    error: BaseException | None = raised
    while error is not None:
        if isinstance(error, KafkaException):
            return kafka_error_of(error)
        error = error.__cause__ or error.__context__
    return None


def behind_delivery(producer: Producer, failed: KafkaError) -> KafkaError:
    """Why a record was not taken: one that was purged says nothing, but the transaction that failed does.

    It is asked to begin, which it answers with what failed it and which changes nothing.
    """
    if failed.code() in _PURGED:
        try:
            producer.begin_transaction()
        except KafkaException as raised:
            error = kafka_error_of(raised)
            return error if error.txn_requires_abort() or error.fatal() else failed
    return failed


def abort(producer: Producer) -> None:
    """Abort what can be aborted. What cannot is aborted by the next producer with this id, or by the time-out."""
    try:
        producer.abort_transaction(_ABORT_SECONDS)
    except KafkaException as error:
        _LOG.info("abort: %s", kafka_error_of(error).str())


def abort_in(clients: Clients, producer: Producer, places: Iterable[Place], doing: str) -> None:
    """Abort a transaction with one record in each of these partitions, so that each gets a marker of this producer.

    Raises OutputError.
    """
    deadline = monotonic() + _INIT_SECONDS
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    try:
        repeat(clients, doing, deadline, producer.begin_transaction)
        for topic, partition in places:
            hand_over(producer, Record(topic, partition, _NOTHING, None), delivered, deadline)
        producer.flush(max(0.1, deadline - monotonic()))
        repeat(clients, doing, deadline, lambda: producer.abort_transaction(max(0.1, deadline - monotonic())))
    except KafkaException as error:
        raise clients.error(doing, kafka_error_of(error)) from error
    if failed:
        raise clients.error(doing, failed[0])


def close(producer: Producer) -> None:
    """End the producer; what it still holds belongs to no committed transaction.

    While no broker answers, librdkafka goes on trying to abort, without a time-out. Nobody waits for that: as soon as
    one answers, the transaction is aborted, or was by a later producer with this id, which fenced this one.
    """
    closing = threading.Thread(target=_close, args=(producer,), name="kafka-close", daemon=True)
    closing.start()
    closing.join(_CLOSE_SECONDS)
    if closing.is_alive():
        _LOG.info("a producer is left to itself: it cannot end its transaction before a broker answers")


def _close(producer: Producer) -> None:
    try:
        producer.purge()
        producer.close()
    except KafkaException as error:
        # A fenced producer cannot end its transaction; whoever fenced it has.
        _LOG.debug("close: %s", kafka_error_of(error).str())
