"""Who owns which partition of the offsets topic: the membership of this worker, polled and published.

Workers form a consumer group on the offsets topic; whoever is assigned a partition restores it and runs its sources.
Rules. (1) One thread polls and does nothing else, so a long pull never costs the membership. It reads each partition
from its end on, for requests to the owner; what stood there before is `changelog`'s to restore. (2) After each poll the
thread publishes generation, member and assignment; `Ownership.fence` proves a transaction by what it published last.
(3) A revocation returns only after the partition's pulls have ended: the broker does check the member, but not which
partition that member owns. (4) A member whose client finds no broker any more, though others do, joins anew.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from connector.errors import OutputError
from connector.kafka.changelog import record_of
from connector.kafka.clients import Clients, Property, kafka_error_of
from connector.kafka.group_properties import group_properties, is_incremental
from connector.kafka.membership import Fence, Membership, fence, not_owner, read_membership
from connector.kafka.record import Record
from connector.kafka.stranding import PATIENCE_SECONDS, Stranding

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.05
# A revocation waits for a commit under way (transaction time-out 60 s), and max.poll.interval.ms (300 s) bounds it.
_REVOKE_SECONDS = 90.0


class Owner(Protocol):
    """Who is told of assignments: the source worker."""

    async def assigned(self, partitions: frozenset[int]) -> None:
        """These partitions are ours now; returns at once."""
        ...

    async def revoked(self, partitions: frozenset[int], *, lost: bool) -> None:
        """These are to be given up: returns when nothing of them is written any more."""
        ...

    async def group_failed(self, error: OutputError, *, fatal: bool) -> None:
        """The group cannot be joined or stayed in; `fatal` when this member will never recover."""
        ...

    def polled(self) -> None:
        """The polling thread turned once more. Called from that thread."""
        ...

    def noticed(self, record: Record) -> None:
        """A record whose key begins with the control prefix came into a partition of ours."""
        ...


class Ownership:
    """The membership of one worker in its group; `async with` joins and leaves."""

    def __init__(
        self,
        clients: Clients,
        *,
        topic: str,
        group: str,
        owner: Owner,
        control_prefix: bytes,
        instance_id: str | None = None,
        properties: dict[str, Property] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """`poll_seconds`: how long a poll waits, and with it who leaves the group, for the poll that is under way."""
        self._clients = clients
        self._topic = topic
        self._group = group
        self._owner = owner
        self._control_prefix = control_prefix
        self._poll_seconds = poll_seconds
        self._stranding = Stranding(clients, patience_seconds)
        self._properties: dict[str, Property] = {
            # What is read here are requests of a hundred bytes; the offsets beside them are passed over.
            "queued.max.messages.kbytes": 4_096,
            "fetch.message.max.bytes": 262_144,
            **group_properties(properties or {}, instance_id),
        }
        self._incremental = is_incremental(self._properties)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._assignment: frozenset[int] = frozenset()
        self._published: Membership | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: asyncio.Future[None] | None = None
        self._told: tuple[str, bool] | None = None
        self._doing = f"taking part in consumer group {group}"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = asyncio.ensure_future(self._clients.call(self._poll, self._consumer()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            await self._thread

    def __repr__(self) -> str:
        return f"<Ownership group={self._group} generation={self.generation} partitions={sorted(self._assignment)}>"

    def recovered(self) -> None:
        """The brokers answer again: the next failure is news."""
        self._told = None
        self._clients.heard_from_broker()

    @property
    def generation(self) -> int:
        """The group's generation as of the last poll, -1 outside the group."""
        return self._published.generation if self._published is not None else -1

    def fence(self, positions: dict[int, int]) -> Fence:
        """The proof for a transaction, as of the last poll. Raises OutputError NotOwner. Called from commit threads."""
        # What the polling thread published last, never the consumer itself: its calls wait for one another, and a
        # revocation, which is inside one, waits for this commit. Proof of before a rebalance is refused by the broker.
        with self._lock:
            published = self._published
        if published is None:
            raise not_owner("this worker is not in the group")
        return fence(published, self._topic, positions)

    def _consumer(self) -> Consumer:
        return self._clients.consumer(self._group, {"auto.offset.reset": "latest", **self._properties})

    def _poll(self, consumer: Consumer) -> None:
        try:
            self._join(consumer)
            while not self._stop.is_set():
                message = consumer.poll(self._poll_seconds)
                self._publish(consumer)
                self._owner.polled()
                if message is not None:
                    self._take(message)
                if self._clients.is_down:  # said to a callback, never as a message
                    self._note(KafkaError(KafkaError._ALL_BROKERS_DOWN))
                if self._stranding.found(consumer, self._topic):
                    _LOG.warning(
                        "%s: this member finds no broker any more, though others do; it joins anew", self._doing
                    )
                    self._leave(consumer)
                    self._stranding.renew()
                    consumer = self._consumer()
                    self._join(consumer)
        except KafkaException as raised:
            self._ended(self._clients.error(self._doing, kafka_error_of(raised)))
        except OutputError as error:
            self._ended(error)
        except Exception as bug:
            self._ended(self._broken(bug))
            raise  # where the worker, which this ends, leaves the membership
        finally:
            self._leave(consumer)

    def _join(self, consumer: Consumer) -> None:
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _leave(self, consumer: Consumer) -> None:
        with self._lock:
            self._published = None
        consumer.close()
        # A member with a fatal error (its instance id is another's now) closes without being told of a revocation.
        if self._assignment:
            self._tell(self._owner.revoked(self._assignment, lost=True))
        with self._lock:
            self._assignment = frozenset()

    def _publish(self, consumer: Consumer) -> None:
        with self._lock:
            metadata = consumer.consumer_group_metadata()
            if metadata is not None and (self._published is None or self._published.metadata != metadata):
                self._published = read_membership(metadata, self._assignment)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self._note(error)
            return
        record = record_of(message)
        if record.key.startswith(self._control_prefix) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._owner.noticed, record)

    def _note(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._TRANSPORT, KafkaError._MAX_POLL_EXCEEDED):
            return
        failure = self._clients.error(self._doing, error)
        # An error that comes as a message has lost its flag; its code says it too.
        fatal = error.fatal() or error.code() == KafkaError._FATAL
        told, self._told = self._told, (failure.reason, fatal)  # before it is told: who is told may say `recovered`
        if told != (failure.reason, fatal):
            self._tell(self._owner.group_failed(failure, fatal=fatal))

    def _ended(self, error: OutputError) -> None:
        """Without its polling thread a member owns nothing and never will, whatever the error is called."""
        if self._stop.is_set():
            _LOG.debug("%s", error)
        else:
            self._tell(self._owner.group_failed(error, fatal=True))

    def _broken(self, bug: Exception) -> OutputError:
        return OutputError(
            reason="KafkaRefused",
            doing=self._doing,
            cause=f"the polling thread ended by a bug: {type(bug).__name__}: {bug}",
            remedy="report it with the traceback that follows (operator)",
        )

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        at_end = [TopicPartition(part.topic, part.partition, OFFSET_END) for part in partitions]
        if self._incremental:
            consumer.incremental_assign(at_end)
        else:
            consumer.assign(at_end)
        new = frozenset(part.partition for part in partitions)
        self._told = None
        self._clients.heard_from_broker()
        with self._lock:
            self._assignment |= new
            self._published = read_membership(consumer.consumer_group_metadata() or b"", self._assignment)
        self._tell(self._owner.assigned(new))

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._give_up(consumer, partitions, lost=False)

    def _on_lost(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._give_up(consumer, partitions, lost=True)

    def _give_up(self, consumer: Consumer, partitions: Sequence[TopicPartition], *, lost: bool) -> None:
        old = frozenset(part.partition for part in partitions)
        # The owner ends its pulls first: a commit under way still needs the assignment it was begun with.
        self._tell(self._owner.revoked(old, lost=lost))
        with self._lock:
            self._assignment -= old
            if self._published is not None:
                self._published = Membership(
                    self._published.generation, self._published.member_id, self._assignment, self._published.metadata
                )
        if self._incremental:
            consumer.incremental_unassign(list(partitions))
        else:
            consumer.unassign()

    def _tell(self, notice: Awaitable[Any]) -> None:
        """Run a notice on the event loop and wait for it, bounded; called from the polling thread."""
        if self._loop is None:
            return
        done = asyncio.run_coroutine_threadsafe(_awaited(notice), self._loop)
        try:
            done.result(_REVOKE_SECONDS)
        except TimeoutError:
            _LOG.error("group %s: a pull did not end within %.0f s of its revocation", self._group, _REVOKE_SECONDS)
            done.cancel()


async def _awaited(notice: Awaitable[Any]) -> None:
    await notice
