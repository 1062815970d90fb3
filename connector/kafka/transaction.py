"""One pull's records and its source offset in one transaction, fenced by the membership of the moment.

Rules. (1) A producer serves one transaction and is thrown away: no torn transaction without KIP-890, no expired id, no
broken sequence after a refused record. (2) The transactional id is `<group>-<partition>`, so
initialising a producer aborts at once what a crashed owner left open. (3) Sizes are checked before begin; any exception
between begin and commit aborts. (4) A commit that is retriable is called again, never turned into an abort. Past the
deadline its outcome is unknown: a new producer settles it, then the offset is read back and its bytes tell.
(5) Nothing in here waits for a registry.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from connector import faults
from connector.errors import OutputError
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients, kafka_error_of
from connector.kafka.membership import Fence, not_owner
from connector.kafka.record import Record, record_size_bytes

_LOG = logging.getLogger(__name__)

# What a fenced producer says when it is closed; we have told its error already.
warnings.filterwarnings("ignore", message="Producer abort_transaction failed during close")

# The transaction holds a local burst only (100 MB took 0.4 s), so a minute is a hundred times what it needs.
TRANSACTION_SECONDS = 60.0
_INIT_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
# Where the cluster hides a topic's settings: the broker's default for max.message.bytes.
_ASSUMED_MESSAGE_BYTES = 1_048_588
_POLL_EVERY = 256


class Prover(Protocol):
    """Who proves that this worker may write now: `Ownership`."""

    def fence(self, positions: dict[int, int]) -> Fence:
        """Raises OutputError NotOwner."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction took: records (the offset's included), their bytes before compression, seconds."""

    records: int
    size_bytes: int
    seconds: float


class Transactions:
    """The transactions of one partition of the offsets topic, one after the other."""

    def __init__(
        self,
        clients: Clients,
        prover: Prover,
        changelog: Changelog,
        *,
        group: str,
        offsets_topic: str,
        partition: int,
    ) -> None:
        self._clients = clients
        self._prover = prover
        self._changelog = changelog
        self._transactional_id = f"{group}-{partition}"
        self._offsets_topic = offsets_topic
        self._partition = partition
        self._lock = asyncio.Lock()
        self._ready: Producer | None = None

    def __repr__(self) -> str:
        return f"<Transactions {self._transactional_id} {'ready' if self._ready else 'idle'}>"

    async def initialise(self, limits: Mapping[str, int | None]) -> None:
        """Have a producer ready; aborts what a crashed owner left open. `limits`: topic → max.message.bytes.

        Raises OutputError KafkaUnreachable, NotAuthorized.
        """
        async with self._lock:
            if self._ready is None:
                self._ready = await self._initialised(limits)

    async def discard(self) -> None:
        """Throw away a producer that was made ready and not used."""
        async with self._lock:
            if (producer := self._ready) is not None:
                self._ready = None
                await self._clients.call(_close, producer)

    async def commit(
        self, records: Iterable[Record], offset: Record, position: int, limits: Mapping[str, int | None]
    ) -> Committed:
        """Commit `records` and then `offset`, all or none. `records` is iterated twice: once for the sizes.

        `position` is the partition's restored position. Raises OutputError: RecordTooLarge before anything is sent;
        NotOwner, Fenced, KafkaUnreachable, … with nothing visible to read_committed readers. When cancelled, a commit
        that is under way is waited for; what is not yet there is aborted.
        """
        stop = threading.Event()

        def everything() -> Iterable[Record]:
            yield from records
            yield offset

        async with self._lock:
            started = monotonic()
            count, size = await self._clients.call(check_sizes, everything(), limits)
            producer = self._ready or await self._initialised(limits)
            self._ready = None
            doing = f"committing {count - 1} records of {offset.key.decode('utf-8', 'replace')}"
            attempt = asyncio.ensure_future(
                self._clients.call(self._transact, producer, everything(), {self._partition: position}, stop, doing)
            )
            try:
                await asyncio.shield(attempt)
            except asyncio.CancelledError:
                stop.set()
                await asyncio.wait([attempt], timeout=TRANSACTION_SECONDS + _CLOSE_SECONDS)
                if attempt.done() and not attempt.cancelled():
                    _LOG.info("%s before the partition was given up: %s", doing, attempt.exception() or "committed")
                raise
            except _OutcomeUnknown as unknown:
                await self._settle(unknown.error, offset, limits)
            finally:
                await asyncio.shield(self._clients.call(_close, producer))
            return Committed(count, size, monotonic() - started)

    async def _initialised(self, limits: Mapping[str, int | None]) -> Producer:
        client_limit = max((limit or _ASSUMED_MESSAGE_BYTES for limit in limits.values()), default=1_000_000)
        producer = await self._clients.call(
            self._clients.producer,
            self._transactional_id,
            max(client_limit, 1_000),
            {"transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000)},
        )
        try:
            await self._clients.call(self._init, producer)
        except BaseException:
            await asyncio.shield(self._clients.call(_close, producer))
            raise
        faults.passing("producer_initialised")
        return producer

    def _init(self, producer: Producer) -> None:
        deadline = monotonic() + _INIT_SECONDS
        self._until(
            deadline,
            f"initialising transactional producer {self._transactional_id}",
            lambda: producer.init_transactions(max(0.1, deadline - monotonic())),
        )
        self._clients.heard_from_broker()

    def _transact(
        self,
        producer: Producer,
        records: Iterable[Record],
        positions: dict[int, int],
        stop: threading.Event,
        doing: str,
    ) -> None:
        deadline = monotonic() + TRANSACTION_SECONDS
        self._until(deadline, doing, producer.begin_transaction)
        faults.passing("transaction_begun")
        try:
            self._produce(producer, records, stop, deadline, doing)
            faults.passing("records_sent")
            proof = self._prover.fence(positions)
            offsets = [TopicPartition(*offset) for offset in proof.offsets]
            self._until(
                deadline,
                doing,
                lambda: producer.send_offsets_to_transaction(offsets, proof.metadata, max(0.1, deadline - monotonic())),
            )
            faults.passing("offsets_sent")
            if stop.is_set():
                raise not_owner("the partition was revoked before the commit")
        except (KafkaException, SystemError) as raised:  # of poll and flush, when the producer was fenced meanwhile
            _abort(producer)
            behind = _behind(raised)
            if behind is None:
                raise
            raise self._clients.error(doing, behind) from raised
        except BaseException:
            _abort(producer)
            raise
        self._commit(producer, deadline, doing)
        faults.passing("committed")

    def _produce(
        self, producer: Producer, records: Iterable[Record], stop: threading.Event, deadline: float, doing: str
    ) -> None:
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None and not failed:
                failed.append(error)

        for number, record in enumerate(records):
            if stop.is_set():
                raise not_owner("the partition was revoked while its records were being sent")
            self._send(producer, record, delivered, deadline, doing)
            if number % _POLL_EVERY == 0:
                producer.poll(0)
            if failed:
                raise self._clients.error(doing, failed[0])
        # The commit would flush too; flushing here tells a refused record from a refused offset.
        producer.flush(max(0.1, deadline - monotonic()))
        if failed:
            raise self._clients.error(doing, failed[0])

    def _send(
        self,
        producer: Producer,
        record: Record,
        delivered: Callable[[KafkaError | None, Message], None],
        deadline: float,
        doing: str,
    ) -> None:
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
                # The local queue is full: let it drain. Its size bounds the memory of a large pull.
                if monotonic() > deadline:
                    raise self._clients.error(doing, KafkaError(KafkaError._TIMED_OUT, "queue full")) from None
                producer.poll(0.05)
            except KafkaException as error:
                raise self._clients.error(doing, kafka_error_of(error)) from error
            else:
                return

    def _commit(self, producer: Producer, deadline: float, doing: str) -> None:
        while True:
            try:
                producer.commit_transaction(max(0.1, deadline - monotonic()))
            except KafkaException as raised:
                error = kafka_error_of(raised)
                if error.txn_requires_abort():
                    _abort(producer)
                    raise self._clients.error(doing, error) from raised
                if error.retriable() and monotonic() < deadline:
                    continue
                raise _OutcomeUnknown(self._clients.error(doing, error)) from raised
            else:
                return

    def _until(self, deadline: float, doing: str, function: Callable[[], object]) -> None:
        """Call again while librdkafka says that the same call may be repeated, until the deadline."""
        while True:
            try:
                function()
            except KafkaException as raised:
                error = kafka_error_of(raised)
                if error.retriable() and monotonic() < deadline:
                    continue
                raise self._clients.error(doing, error) from raised
            else:
                return

    async def _settle(self, error: OutputError, offset: Record, limits: Mapping[str, int | None]) -> None:
        """Find out whether a commit without an answer took place; returns if it did, raises if it did not.

        A new producer with the same id completes or aborts the old transaction; then the offset's bytes tell, since
        they hold this pull's id. Only the owner may do this: a stranger's producer would fence the owner's.
        """
        _LOG.warning("the outcome of a commit is unknown, reading the offset back: %s", error)
        self._prover.fence({self._partition: 0})
        self._ready = await self._initialised(limits)
        restored = await self._changelog.read(self._offsets_topic, [self._partition], lambda record: record.value)
        if restored[self._partition].entries.get(offset.key) == offset.value:
            _LOG.info("the commit had taken place")
            return
        raise OutputError(
            reason=error.reason,
            doing=error.doing,
            cause=f"{error.cause}; read back: the transaction did not take place",
            remedy=error.remedy,
            transient=True,
        ) from error


class _OutcomeUnknown(Exception):
    def __init__(self, error: OutputError) -> None:
        super().__init__(str(error))
        self.error = error


def check_sizes(records: Iterable[Record], limits: Mapping[str, int | None]) -> tuple[int, int]:
    """How many records and bytes there are. Raises OutputError RecordTooLarge for the first one over its topic's limit.

    A record counts with key and headers, uncompressed: the client's own check is on the raw size, and whether a broker
    would take it compressed depends on its neighbours in the batch.
    """
    count = size = 0
    for record in records:
        own = record_size_bytes(record)
        limit = limits.get(record.topic)
        if limit is not None and own > limit:
            raise OutputError(
                reason="RecordTooLarge",
                doing=f"checking the size of {record.key.decode('utf-8', 'replace')}",
                cause=f"its record takes {own} bytes; topic {record.topic} takes max.message.bytes={limit}",
                remedy=f"kafka-configs.sh --alter --entity-type topics --entity-name {record.topic} --add-config "
                f"max.message.bytes={_round_up(own)} (operator), or leave the file out with 'exclude'",
            )
        count += 1
        size += own
    return count, size


def _round_up(size_bytes: int) -> int:
    mebibyte = 1024 * 1024
    return (size_bytes // mebibyte + 1) * mebibyte


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


def _abort(producer: Producer) -> None:
    """Abort what can be aborted. What cannot is aborted by the next producer with this id, or by the time-out."""
    try:
        producer.abort_transaction(_CLOSE_SECONDS)
    except KafkaException as error:
        _LOG.info("abort: %s", kafka_error_of(error).str())


def _close(producer: Producer) -> None:
    """End the producer; what it still holds belongs to no committed transaction."""
    try:
        producer.purge()
        producer.close()
    except KafkaException as error:
        # A fenced producer cannot end its transaction; whoever fenced it has.
        _LOG.debug("close: %s", kafka_error_of(error).str())
