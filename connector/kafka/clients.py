"""Producers, consumers and the admin client from librdkafka properties; one door for their errors and threads.

Rules. (1) The user's properties pass through under their own names; the few that would break a promise are refused by
`check_properties`. (2) A blocking call runs in a thread of `Clients`, with a finite time-out. (3) A KafkaError becomes
an OutputError here and nowhere else; what the error callback heard last is part of it, because a refused password or
certificate shows up elsewhere only as a time-out. (4) librdkafka's own log lines are heard at DEBUG alone: in an outage
they repeat for ever, and an unchanged tick is one line. (5) What the user leaves alone is set so that a client is
ready soon (`ready_soon`).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, libversion
from confluent_kafka.admin import AdminClient

from connector.errors import ConfigError, OutputError

Property = str | int | float | bool
T = TypeVar("T")

_LIBRDKAFKA_LOG = logging.getLogger("connector.kafka.librdkafka")

# What the promises stand on; a user's value could only break them.
_OURS = {
    "transactional.id": "it is <group>-<partition>, so that a takeover ends what a crashed owner left open",
    "enable.idempotence": "it is always on",
    "acks": "it is always 'all'",
    "group.id": "it is the setting 'group' of worker.yaml",
    "enable.auto.commit": "offsets are committed in the transaction of their records",
    "enable.auto.offset.store": "offsets are committed in the transaction of their records",
    "isolation.level": "our readers are always read_committed",
    "auto.offset.reset": "it is set by purpose",
    "enable.partition.eof": "it is set by purpose",
}

# librdkafka waits half of this between a first connection, to a bootstrap server, and the one to the broker which that
# turns out to be: 50 of the 56 ms in which a producer gets its id. After failures the pause doubles all the same.
_RECONNECT_MS = 20
# With its sparse connections a client that needs any broker may sit out a timer of half a second before it dials one
# (one producer in eight was measured to). To so many brokers each client may connect at once; more would feel it.
_FEW_BROKERS = 5

# Properties of one client kind only; the other kind would log a warning for each.
_PRODUCER_ONLY = (
    "queue.buffering.", "linger.ms", "batch.", "compression.", "request.timeout.ms", "message.timeout.ms",
    "delivery.", "retries", "retry.backoff.", "partitioner", "sticky.", "transaction.", "request.required.acks",
)  # fmt: skip
_CONSUMER_ONLY = (
    "session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "group.", "max.poll.interval.ms",
    "fetch.", "queued.", "check.crcs", "max.partition.fetch.bytes", "client.rack",
)  # fmt: skip

_UNREACHABLE = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}
_REFUSED_LOGIN = {
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL,
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}  # fmt: skip
_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
_NOT_OWNER = {
    KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID,
    KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH, KafkaError.FENCED_MEMBER_EPOCH,
}  # fmt: skip

ACLS = (
    "Write on TransactionalId prefix '<group>-', Read on Group '<group>', Read, Write and DescribeConfigs on the "
    "offsets topic and on each flow's topic, and Create on them where topics.manage is 'create'; for the sink half "
    "Read on Group '<group>-sink-<flow>' and on the flow's topics; 'oci-sync topics acls' prints the commands for them"
)


def check_properties(properties: Mapping[str, Property]) -> None:
    """Raise ConfigError BadValue for a property that the connector must set itself."""
    for name in properties:
        if name in _OURS:
            raise ConfigError(
                reason="BadValue",
                doing=f"reading the kafka property {name!r}",
                cause=f"the connector sets it itself: {_OURS[name]}",
                remedy="remove it from worker.yaml (operator)",
            )


class Clients:
    """Makes clients of one cluster and runs their blocking calls; `async with` ends its threads.

    `name` is this process's own; `client_id`, which is the same unless the user chose one, may be that of many.
    `bootstrap` and `last_error` are for messages. `is_down`: a client lost all its brokers, and none was heard since;
    `times_down`: how often that happened.
    """

    def __init__(self, properties: Mapping[str, Property], name: str = "oci-sync") -> None:
        check_properties(properties)
        self.name = name
        self.client_id = str(properties.get("client.id", name))
        self._properties = dict(properties)
        self.bootstrap = str(properties.get("bootstrap.servers", ""))
        self.last_error: KafkaError | None = None
        self.is_down = False
        self.times_down = 0
        self._brokers: int | None = None
        # 64: one commit a partition may block for its time-out, and restores and admin calls must not queue behind.
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="kafka")
        debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
        _LIBRDKAFKA_LOG.setLevel(logging.DEBUG if debugging else logging.CRITICAL + 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a blocking function, run in a thread. Cancelling the wait does not stop the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def producer(
        self, transactional_id: str, message_max_bytes: int, batch_bytes: int, ours: Mapping[str, Property]
    ) -> Producer:
        """A transactional producer, not yet initialised. `batch_bytes`: the smallest limit of a topic it writes to."""
        return self._make(
            Producer,
            {
                # A frozen coordinator keeps its connections: at the default of 60 s a commit waited a minute for it.
                "socket.timeout.ms": min(10_000, int(ours.get("transaction.timeout.ms", 60_000)) // 2),
                **_bounded_queue(message_max_bytes),
                **self._for_kind(_CONSUMER_ONLY),
                "transactional.id": transactional_id,
                "message.max.bytes": message_max_bytes,
                "batch.size": _batch_size(batch_bytes),
                **ours,
            },
        )

    def plain_producer(self, message_max_bytes: int = 1_000_000, batch_bytes: int = 1_000_000) -> Producer:
        """An idempotent producer outside of any transaction; `batch_bytes` as in `producer`."""
        return self._make(
            Producer,
            {
                **_bounded_queue(message_max_bytes),
                **self._for_kind(_CONSUMER_ONLY),
                "message.max.bytes": message_max_bytes,
                "batch.size": _batch_size(batch_bytes),
                "enable.idempotence": True,
            },
        )

    def consumer(self, group: str, ours: Mapping[str, Property]) -> Consumer:
        """A consumer that commits nothing by itself and reads committed records only, unless `ours` says otherwise."""
        return self._make(
            Consumer,
            {
                **self._for_kind(_PRODUCER_ONLY),
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                **ours,
            },
        )

    def admin(self) -> AdminClient:
        """An admin client."""
        return self._make(AdminClient, self._for_kind(_PRODUCER_ONLY + _CONSUMER_ONLY))

    def error(self, doing: str, error: KafkaError) -> OutputError:
        """The OutputError for what librdkafka said while `doing`."""
        return output_error(doing, error, self.bootstrap, self.last_error)

    def heard_from_broker(self) -> None:
        """Forget the last error: something just worked."""
        self.last_error, self.is_down = None, False

    def count_brokers(self, count: int) -> None:
        """Learn how many brokers the cluster has; clients made from now on connect accordingly."""
        self._brokers = count

    def _make(self, kind: Callable[..., T], properties: dict[str, Property]) -> T:
        merged = {"client.id": self.client_id, **ready_soon(self._brokers), **properties, "error_cb": self._heard}
        try:
            return kind(merged, logger=_LIBRDKAFKA_LOG)
        except (KafkaException, TypeError, ValueError) as error:
            detail = error.args[0] if error.args else error
            text = detail.str() if isinstance(detail, KafkaError) else str(detail)
            raise ConfigError(
                reason="BadValue",
                doing="making a Kafka client of the properties under 'kafka' in worker.yaml",
                cause=text,
                remedy="correct the property; the names are librdkafka's (operator)",
            ) from error

    def _for_kind(self, foreign: tuple[str, ...]) -> dict[str, Property]:
        return {name: value for name, value in self._properties.items() if not name.startswith(foreign)}

    def _heard(self, error: KafkaError) -> None:
        # _ALL_BROKERS_DOWN follows the error that says why; keep the one that says why.
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.is_down = True
            self.times_down += 1
        if error.code() != KafkaError._ALL_BROKERS_DOWN or self.last_error is None:
            self.last_error = error


def ready_soon(brokers: int | None) -> dict[str, Property]:
    """What lets a client reach its brokers soon, unless the user set it; `brokers` None: not known yet. Pure."""
    soon: dict[str, Property] = {"reconnect.backoff.ms": _RECONNECT_MS}
    if brokers is not None and brokers <= _FEW_BROKERS:
        soon["enable.sparse.connections"] = False
    return soon


def _batch_size(limit_bytes: int) -> int:
    """The broker checks a batch as a whole against its topic's limit; a record that is larger goes alone."""
    return min(1_000_000, limit_bytes)


def _bounded_queue(message_max_bytes: int) -> dict[str, Property]:
    """How much of a pull may wait in memory: it is handed over faster than it is sent.

    The bytes are those of values, and the largest must find room in an empty queue. Headers and what librdkafka keeps
    of a record, 2 KB of each, are bounded by the count.
    """
    return {
        "queue.buffering.max.kbytes": max(16_384, message_max_bytes // 1024 + 1),
        "queue.buffering.max.messages": 4_000,
        # A report holds a copy of the value, and what went well is told by flush and commit.
        "delivery.report.only.error": True,
    }


def output_error(doing: str, error: KafkaError, bootstrap: str = "", last: KafkaError | None = None) -> OutputError:
    """The OutputError of a KafkaError; `last` is what the error callback heard before it. Pure."""
    code = error.code()
    if code in _UNREACHABLE and last is not None and last.code() in _REFUSED_LOGIN:
        code, error = last.code(), last
    heard = f"; last heard: {last.str()}" if last is not None and last is not error and code in _UNREACHABLE else ""
    cause = f"{error.name()}: {error.str()}{heard}"
    if code in _UNREACHABLE:
        return OutputError(
            reason="KafkaUnreachable",
            doing=doing,
            cause=cause,
            remedy=f"check that a broker answers at {bootstrap or 'bootstrap.servers'} and that its "
            "advertised.listeners can be reached from here (operator)",
        )
    if code in _REFUSED_LOGIN:
        return OutputError(
            reason="NotAuthorized",
            doing=doing,
            cause=cause,
            remedy=f"check the security properties under 'kafka'; the ACLs needed are: {ACLS} (operator)",
        )
    if code in _FENCED:
        return OutputError(
            reason="Fenced",
            doing=doing,
            cause=f"{cause}; another worker took this partition over, or the transaction outlived its time-out",
            remedy="nothing to do if a rebalance just happened; the owner pulls at its next tick (nobody)",
        )
    if code in _NOT_OWNER:
        return OutputError(
            reason="NotOwner",
            doing=doing,
            cause=f"{cause}; this worker's membership in the group is out of date",
            remedy="nothing to do; the partition's owner pulls at its next tick (nobody)",
        )
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return OutputError(
            reason="RecordTooLarge",
            doing=doing,
            cause=cause,
            remedy="raise max.message.bytes of the topic, or leave the file out with 'exclude' (operator)",
        )
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
        return OutputError(
            reason="TopicMissing",
            doing=doing,
            cause=cause,
            remedy="create the topic (oci-sync creates it at start where topics.manage is 'create') (operator)",
        )
    return OutputError(
        reason="KafkaRefused",
        doing=doing,
        cause=cause,
        remedy="see the broker's log for the same time (operator)",
        transient=error.retriable(),
    )


def kafka_error_of(error: KafkaException) -> KafkaError:
    """The KafkaError inside a KafkaException."""
    inner = error.args[0] if error.args else None
    return inner if isinstance(inner, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


def librdkafka_version() -> str:
    """The version of the C library underneath."""
    return libversion()[0]
