"""One pull's records and its source offset in one transaction, fenced by the membership of the moment.

Rules. (1) A producer serves one transaction and is thrown away: no torn transaction without KIP-890, no expired id, no
broken sequence after a refused record. (2) The transactional id is `<group>-<partition>`, so initialising a producer
aborts at once what a crashed owner left open. (3) Sizes are checked before begin. (4) A commit without an answer is
settled: a new producer ends the old transaction, then the offset is read back and its bytes tell. (5) Nothing in here
waits for a registry. (6) A new owner sees to it that no older transaction hangs in a partition it will write to: the
next commit would commit that too. What happens between begin and commit is in `attempt.py`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from time import monotonic
from typing import Protocol

from confluent_kafka import Producer
from msgspec import Struct

from connector import faults
from connector.errors import OutputError
from connector.kafka.attempt import Attempt, OutcomeUnknown, Prover, abort_in, close, initialise
from connector.kafka.changelog import Changelog
from connector.kafka.clients import Clients
from connector.kafka.record import Record, sizes_of
from connector.kafka.topics import Place
from connector.telemetry import TransactionResult

_LOG = logging.getLogger(__name__)

Ended = Callable[[TransactionResult, float], None]

# What the broker, or our own fence, says to a worker that does not own the partition any more.
FENCES = frozenset({"Fenced", "NotOwner"})
# The transaction holds a local burst only (100 MB took 0.4 s), so a minute is a hundred times what it needs.
TRANSACTION_SECONDS = 60.0
_GRACE_SECONDS = 5.0
# A transaction of another owner that is under way moves on meanwhile.
_LOOKS = 3
_LOOK_SECONDS = 0.2
# Where the cluster hides a topic's settings: the broker's default for max.message.bytes.
_ASSUMED_MESSAGE_BYTES = 1_048_588


def uncounted(_result: TransactionResult, _seconds: float) -> None:
    """Nobody counts."""


class Committed(Struct, frozen=True):
    """What a transaction took: records (the offset's included), their bytes before compression, seconds."""

    records: int
    size_bytes: int
    seconds: float


class Writes(Protocol):
    """How the owner of a partition writes: Transactions, or AcknowledgedWrites for clusters that forbid them.

    `in_doubt`: a commit may have taken place that nobody could settle, so the partition must be restored first.
    """

    in_doubt: bool

    def restored(self) -> None:
        """The partition was read anew: what was in doubt is known."""
        ...

    async def initialise(self, limits: Mapping[str, int | None]) -> None:
        """Make ready; end what a crashed owner left open."""
        ...

    async def end_hanging(self, places: Sequence[Place], limits: Mapping[str, int | None]) -> None:
        """End the transactions that hang in these partitions, though their coordinator holds them for ended."""
        ...

    async def discard(self) -> None:
        """Throw away what was made ready and not used."""
        ...

    async def commit(
        self, records: Iterable[Record], offset: Record, position: int, limits: Mapping[str, int | None]
    ) -> Committed:
        """Write the records and then the offset. Raises OutputError."""
        ...


class Transactions:
    """The transactions of one partition of the offsets topic, one after the other.

    `ended` is told the result and the seconds of each that was begun.
    """

    def __init__(
        self,
        clients: Clients,
        prover: Prover,
        changelog: Changelog,
        *,
        group: str,
        offsets_topic: str,
        partition: int,
        timeout_seconds: float = TRANSACTION_SECONDS,
        ended: Ended = uncounted,
    ) -> None:
        self._clients = clients
        self._prover = prover
        self._changelog = changelog
        self._transactional_id = f"{group}-{partition}"
        self._offsets_topic = offsets_topic
        self._partition = partition
        self._timeout_seconds = timeout_seconds
        self._ended = ended
        self._lock = asyncio.Lock()
        self._ready: Producer | None = None
        self._times_down = 0
        self.in_doubt = False
        """Whether a commit may have taken place that nobody could settle: the partition must be restored first."""

    def __repr__(self) -> str:
        return f"<Transactions {self._transactional_id} {'ready' if self._ready else 'idle'}>"

    async def initialise(self, limits: Mapping[str, int | None]) -> None:
        """Have a producer ready; aborts what a crashed owner left open. `limits`: topic → max.message.bytes.

        Raises OutputError KafkaUnreachable, NotAuthorized.
        """
        async with self._lock:
            if self._ready is None:
                await self._make_ready(limits)

    async def end_hanging(self, places: Sequence[Place], limits: Mapping[str, int | None]) -> None:
        """Abort what is left open in these partitions by an owner of this id; to be called when `initialise` returned.

        Everything of this id is ended then, unless a marker got lost: a coordinator passes over partitions that have no
        leader at the moment (seen in Kafka 4.4, when a broker comes back after the transaction's time-out). Such a
        transaction holds readers for ever, and a marker names the producer, not the transaction: the next commit would
        make its records visible. So does an abort end it. Transactions of others that are open now are left alone by
        it, and cost one aborted record. Raises OutputError.
        """
        held = await self._changelog.held_back(places)
        for _ in range(_LOOKS):
            if not held:
                return
            await asyncio.sleep(_LOOK_SECONDS)
            again = await self._changelog.held_back(list(held))
            held = {place: offset for place, offset in again.items() if held[place] == offset}
        if not held:
            return
        names = ", ".join(f"{topic}[{partition}] at {offset}" for (topic, partition), offset in sorted(held.items()))
        doing = f"ending transactions of {self._transactional_id} that may hang in {names}"
        async with self._lock:
            producer, started = await self._take(limits), monotonic()
            try:
                await asyncio.shield(self._clients.call(abort_in, self._clients, producer, sorted(held), doing))
            finally:
                self._ended("aborted", monotonic() - started)
                await asyncio.shield(self._clients.call(close, producer))
        _LOG.warning(
            "an open transaction held readers back in %s: aborted, if it was one of %s that lost its end",
            names, self._transactional_id,
        )  # fmt: skip

    def restored(self) -> None:
        """The partition was read anew, behind a new producer: what was in doubt is known."""
        self.in_doubt = False

    async def discard(self) -> None:
        """Throw away a producer that was made ready and not used."""
        async with self._lock:
            if (producer := self._ready) is not None:
                self._ready = None
                await self._clients.call(close, producer)

    async def commit(
        self, records: Iterable[Record], offset: Record, position: int, limits: Mapping[str, int | None]
    ) -> Committed:
        """Commit `records` and then `offset`, all or none. `records` is iterated twice: once for the sizes.

        `position` is the partition's restored position. Raises OutputError: RecordTooLarge before anything is sent;
        NotOwner, Fenced, KafkaUnreachable, … with nothing visible to read_committed readers. When cancelled, a commit
        that is under way is waited for; what is not yet there is aborted.
        """

        def everything() -> Iterable[Record]:
            yield from records
            yield offset

        async with self._lock:
            started = monotonic()
            count, size = await self._clients.call(check_sizes, records, limits, offset)
            producer = await self._take(limits)
            doing = f"committing {count - 1} records of {offset.key.decode('utf-8', 'replace')}"
            positions = {self._partition: position}
            attempt = Attempt(self._clients, producer, self._prover, positions, doing, self._timeout_seconds)
            running = asyncio.ensure_future(self._clients.call(attempt.run, everything()))
            try:
                await self._finish(running, attempt, producer, offset, limits)
            except asyncio.CancelledError:  # which may have taken the place of what the transaction ended with
                if running.done() and not running.cancelled():
                    _LOG.info("%s before the partition was given up: %s", doing, running.exception() or "committed")
                raise
            return Committed(count, size, monotonic() - started)

    async def _finish(
        self,
        running: "asyncio.Future[None]",
        attempt: Attempt,
        producer: Producer,
        offset: Record,
        limits: Mapping[str, int | None],
    ) -> None:
        """Return when it is committed; raise what it ended with. Its producer is closed."""
        is_committed, begun = False, monotonic()
        try:
            await asyncio.shield(running)
            is_committed = True
        except asyncio.CancelledError:
            attempt.stop()
            await asyncio.wait([running], timeout=self._timeout_seconds + _GRACE_SECONDS)
            raise
        except OutcomeUnknown as unknown:
            self.in_doubt = True
            await self._settle(unknown.error, offset, limits)
            is_committed = True
        finally:
            if attempt.is_begun:
                result = "committed" if is_committed else self._failed(attempt, running)
                self._ended(result, monotonic() - begun)
            await asyncio.shield(self._clients.call(close, producer))

    def _failed(self, attempt: Attempt, running: "asyncio.Future[None]") -> TransactionResult:
        """How a transaction ended whose commit was not told to the caller."""
        if self.in_doubt or not running.done() or running.cancelled():
            return "unknown"
        failure = running.exception()
        if failure is None:
            return "committed"
        is_fenced = isinstance(failure, OutputError) and failure.reason in FENCES
        # One that we end ourselves, because the partition goes to another member, says that it is not ours too.
        return "fenced" if is_fenced and not attempt.is_stopped else "aborted"

    async def _make_ready(self, limits: Mapping[str, int | None]) -> None:
        times_down = self._clients.times_down
        self._ready, self._times_down = await self._initialised(limits), times_down

    async def _take(self, limits: Mapping[str, int | None]) -> Producer:
        """The producer that was made ready, unless brokers were lost since: it might be stranded (see `stranding`)."""
        producer, self._ready = self._ready, None
        if producer is not None and self._clients.times_down != self._times_down:
            await asyncio.shield(self._clients.call(close, producer))
            producer = None
        return producer or await self._initialised(limits)

    async def _initialised(self, limits: Mapping[str, int | None]) -> Producer:
        producer = await self._clients.call(
            self._clients.producer,
            self._transactional_id,
            client_limit(limits),
            batch_limit(limits),
            {"transaction.timeout.ms": int(self._timeout_seconds * 1000)},
        )
        try:
            await self._clients.call(initialise, self._clients, producer, self._transactional_id)
        except BaseException:
            await asyncio.shield(self._clients.call(close, producer))
            raise
        faults.passing("producer_initialised")
        return producer

    async def _settle(self, error: OutputError, offset: Record, limits: Mapping[str, int | None]) -> None:
        """Find out whether a commit without an answer took place; returns if it did, raises if it did not.

        A new producer with the same id completes or aborts the old transaction; then the offset's bytes tell, since
        they hold this pull's id. Only the owner may do this: a stranger's producer would fence the owner's. Where no
        broker can be asked either, `in_doubt` stays: to pull on from memory would commit the same release twice.
        """
        _LOG.warning("the outcome of a commit is unknown, reading the offset back: %s", error)
        self._prover.fence({self._partition: 0})
        await self._make_ready(limits)
        restored = await self._changelog.read(self._offsets_topic, [self._partition], lambda record: record.value)
        self.in_doubt = False
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


def client_limit(limits: Mapping[str, int | None]) -> int:
    """The message.max.bytes of a producer for topics of these limits."""
    return max(1_000, max((limit or _ASSUMED_MESSAGE_BYTES for limit in limits.values()), default=1_000_000))


def batch_limit(limits: Mapping[str, int | None]) -> int:
    """What a batch may have that goes to any of these topics; what stands in it besides is in the records' sizes."""
    return max(1_000, min((limit or _ASSUMED_MESSAGE_BYTES for limit in limits.values()), default=1_000_000))


def check_sizes(records: Iterable[Record], limits: Mapping[str, int | None], *last: Record) -> tuple[int, int]:
    """How many records and bytes there are. Raises OutputError RecordTooLarge for the first one over its topic's limit.

    A record counts with key and headers, uncompressed: the client's own check is on the raw size, and whether a broker
    would take it compressed depends on its neighbours in the batch.
    """
    count = size = 0
    for record in chain(sizes_of(records), sizes_of(last)):
        own = record.size_bytes
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
