"""Topics: create one, or check that one fits. Pure functions decide what must hold; doing asks the admin client.

Rules. (1) `create` makes a missing topic and checks an existing one; `check` never creates. (2) A topic that would
break a promise is refused with the command that mends it; nothing is altered behind the platform team's back.
(3) Where the cluster forbids DescribeConfigs, the settings count as unknown: said once, and the broker's own refusal
must do.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Literal

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ConfigResource, NewTopic, OffsetSpec, ResourceType
from msgspec import Struct

from connector.errors import OutputError
from connector.kafka.admin import Admin
from connector.kafka.clients import Clients, kafka_error_of

_LOG = logging.getLogger(__name__)

# A topic and one of its partitions.
Place = tuple[str, int]
_ADMIN_SECONDS = 15.0
_LEADER_ON_ITS_WAY = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError._NOENT,  # librdkafka's "No leaders found"
}

Manage = Literal["create", "check"]


class TopicSpec(Struct, frozen=True):
    """A topic as we need it. `config` is what it is created with; `max_message_bytes` is what must fit into it."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]
    max_message_bytes: int
    partitions_must_match: bool = False
    purpose: str = ""


class Topic(Struct, frozen=True):
    """A topic as it is. `config` is None where the cluster does not let us read it."""

    name: str
    partitions: int
    config: Mapping[str, str] | None

    @property
    def max_message_bytes(self) -> int | None:
        """The largest batch the topic takes, None where unknown."""
        value = (self.config or {}).get("max.message.bytes", "")
        return int(value) if value.isdigit() else None


def layer_topic(name: str, *, partitions: int, replication_factor: int, max_file_size: int) -> TopicSpec:
    """The topic of a flow's records (contract 1): compacted; each pull stays whole for a day, tombstones for a week.

    A text file at most doubles in JSON (quotes, backslashes, line ends); control characters may take more, and such
    a file meets the size check before the transaction.
    """
    needed = 2 * max_file_size + 65_536
    return TopicSpec(
        name=name,
        partitions=partitions,
        replication_factor=replication_factor,
        config={
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": "86400000",
            "delete.retention.ms": "604800000",
            "max.message.bytes": str(needed),
        },
        max_message_bytes=needed,
        purpose="records",
    )


def compacted_topic(name: str, *, partitions: int, max_value_size: int) -> TopicSpec:
    """The topic of a store: compacted, tombstones kept for a week."""
    needed = max_value_size + 65_536
    return TopicSpec(
        name=name,
        partitions=partitions,
        replication_factor=-1,
        config={
            "cleanup.policy": "compact",
            "delete.retention.ms": "604800000",
            "max.message.bytes": str(needed),
        },
        max_message_bytes=0,  # an existing topic may take less; a value that does not fit is refused by its size
        purpose="a store",
    )


def offsets_topic(name: str, *, partitions: int, replication_factor: int) -> TopicSpec:
    """The topic of source offsets (contract 2): compacted, small segments so that a restore reads little.

    8 MiB hold the paths of about 80,000 files in one offset.
    """
    needed = 8 * 1024 * 1024
    return TopicSpec(
        name=name,
        partitions=partitions,
        replication_factor=replication_factor,
        config={
            "cleanup.policy": "compact",
            "segment.bytes": str(16 * 1024 * 1024),
            "min.cleanable.dirty.ratio": "0.1",
            "max.message.bytes": str(needed),
        },
        max_message_bytes=needed,
        partitions_must_match=True,
        purpose="source offsets",
    )


def misfits(spec: TopicSpec, topic: Topic, bootstrap: str) -> list[tuple[str, str]]:
    """What about the topic would break a promise: pairs of cause and remedy. Pure."""
    found: list[tuple[str, str]] = []
    alter = f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics --entity-name {topic.name}"
    policy = (topic.config or {}).get("cleanup.policy")
    if policy is not None and "compact" not in policy:
        found.append(
            (
                f"cleanup.policy is {policy!r}, so {spec.purpose} would vanish with age",
                f"{alter} --add-config cleanup.policy=compact",
            )
        )
    elif policy is not None and spec.partitions_must_match and "delete" in policy:
        found.append(
            (
                f"cleanup.policy is {policy!r}: 'delete' would forget {spec.purpose}, and everything be pulled again",
                f"{alter} --add-config cleanup.policy=compact",
            )
        )
    if spec.partitions_must_match and topic.partitions != spec.partitions:
        found.append(
            (
                f"it has {topic.partitions} partitions and worker.yaml says {spec.partitions}; another number moves "
                "each source to another partition, where its offset is not",
                f"set offsets.partitions to {topic.partitions} in worker.yaml, or name a new topic",
            )
        )
    return found


def too_small(spec: TopicSpec, topic: Topic, bootstrap: str) -> str | None:
    """The sentence that says that the topic takes less than the largest allowed file may need; None where it fits."""
    limit = topic.max_message_bytes
    if limit is None or limit >= spec.max_message_bytes:
        return None
    return (
        f"topic {topic.name} has max.message.bytes={limit}; the largest allowed record may need "
        f"{spec.max_message_bytes}. Larger files will be refused; to raise it: kafka-configs.sh --bootstrap-server "
        f"{bootstrap} --alter --entity-type topics --entity-name {topic.name} "
        f"--add-config max.message.bytes={spec.max_message_bytes}"
    )


class Topics:
    """Asks and tells the cluster about topics; `admin` for what else is asked. All methods raise OutputError."""

    def __init__(self, clients: Clients, *, shown_within_seconds: float = _ADMIN_SECONDS) -> None:
        self._clients = clients
        self._shown_within_seconds = shown_within_seconds
        self.admin = Admin(clients)
        self._config_forbidden = False

    async def describe(self, names: Sequence[str]) -> dict[str, Topic]:
        """The topics that exist, by name; a missing one is not in the answer."""
        try:
            metadata = await self._clients.call(self.admin.client.list_topics, None, _ADMIN_SECONDS)
        except KafkaException as error:
            raise self.admin.error("asking the cluster for its topics", kafka_error_of(error)) from error
        self._clients.count_brokers(len(metadata.brokers))
        partitions = {
            name: len(found.partitions)
            for name in names
            if (found := metadata.topics.get(name)) is not None and found.error is None
        }
        configs = await self._configs(list(partitions))
        return {name: Topic(name, count, configs.get(name)) for name, count in partitions.items()}

    async def ensure(self, specs: Sequence[TopicSpec], manage: Manage) -> dict[str, Topic]:
        """Every topic of `specs` as it is, created where that is missing and allowed.

        Raises OutputError TopicMissing, TopicMisfit, NotAuthorized, KafkaUnreachable.
        """
        found = await self.describe([spec.name for spec in specs])
        missing = [spec for spec in specs if spec.name not in found]
        if missing and manage == "check":
            spec = missing[0]
            config = " ".join(f"--config {key}={value}" for key, value in spec.config.items())
            raise OutputError(
                reason="TopicMissing",
                doing=f"checking topic {spec.name}",
                cause="it does not exist, and topics.manage is 'check'",
                remedy=f"kafka-topics.sh --bootstrap-server {self._clients.bootstrap} --create --topic {spec.name} "
                f"--partitions {spec.partitions} {config} (operator)",
            )
        if missing:
            await self._create(missing)
            found.update(await self._await_created([spec.name for spec in missing]))
        for spec in specs:
            self._check(spec, found[spec.name])
        return found

    async def end_offsets(self, topic: str, partitions: Sequence[int], *, committed: bool) -> dict[int, int]:
        """The high watermark of each partition, or with `committed` the last stable offset."""
        isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return _of_one(await self._offsets([(topic, number) for number in partitions], OffsetSpec.latest(), isolation))

    async def start_offsets(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """The first offset of each partition."""
        places = [(topic, number) for number in partitions]
        return _of_one(await self._offsets(places, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED))

    async def held_back(self, places: Sequence[Place]) -> dict[Place, int]:
        """Those partitions whose readers a transaction holds back, and where: the last stable offset."""
        latest = OffsetSpec.latest()
        ends = await self._offsets(places, latest, IsolationLevel.READ_UNCOMMITTED)
        stable = await self._offsets(places, latest, IsolationLevel.READ_COMMITTED)
        return {place: offset for place, offset in stable.items() if offset < ends[place]}

    def _check(self, spec: TopicSpec, topic: Topic) -> None:
        for cause, remedy in misfits(spec, topic, self._clients.bootstrap):
            raise OutputError(
                reason="TopicMisfit",
                doing=f"checking topic {topic.name} for {spec.purpose}",
                cause=cause,
                remedy=f"{remedy} (operator)",
            )
        if (sentence := too_small(spec, topic, self._clients.bootstrap)) is not None:
            _LOG.warning("%s", sentence)

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        new = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=spec.replication_factor,
                config=dict(spec.config),
            )
            for spec in specs
        ]
        futures = self.admin.client.create_topics(new, operation_timeout=_ADMIN_SECONDS, request_timeout=_ADMIN_SECONDS)
        for spec in specs:
            try:
                await asyncio.wrap_future(futures[spec.name])
            except KafkaException as error:
                # Another worker that starts at the same moment may have been first.
                if kafka_error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise self.admin.error(f"creating topic {spec.name}", kafka_error_of(error)) from error
            else:
                _LOG.info("created topic %s with %d partition(s)", spec.name, spec.partitions)

    async def _await_created(self, names: Sequence[str]) -> dict[str, Topic]:
        deadline = asyncio.get_running_loop().time() + self._shown_within_seconds
        while True:
            found = await self.describe(names)
            missing = sorted(set(names) - found.keys())
            if not missing:
                return found
            if asyncio.get_running_loop().time() > deadline:
                raise OutputError(
                    reason="KafkaUnreachable",
                    doing=f"waiting for new topic {missing[0]}",
                    cause=f"it was created, and no broker shows it after {self._shown_within_seconds:.0f} s",
                    remedy="look at the controller and the brokers' logs (operator)",
                )
            await asyncio.sleep(0.05)  # metadata spreads through the brokers after creation was acknowledged

    async def _configs(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        if not names or self._config_forbidden:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self.admin.client.describe_configs(resources, request_timeout=_ADMIN_SECONDS)
        configs: dict[str, Mapping[str, str]] = {}
        for resource, future in futures.items():
            try:
                entries = await asyncio.wrap_future(future)
            except KafkaException as error:
                if kafka_error_of(error).code() not in (
                    KafkaError.TOPIC_AUTHORIZATION_FAILED,
                    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
                ):
                    doing = f"reading the settings of topic {resource.name}"
                    raise self.admin.error(doing, kafka_error_of(error)) from error
                self._config_forbidden = True
                _LOG.warning(
                    "DescribeConfigs is not allowed on topic %s: its settings cannot be checked", resource.name
                )
                continue
            configs[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
        return configs

    async def _offsets(self, places: Sequence[Place], spec: OffsetSpec, isolation: IsolationLevel) -> dict[Place, int]:
        found: dict[Place, int] = {}
        waiting = list(places)
        deadline = asyncio.get_running_loop().time() + _ADMIN_SECONDS
        while waiting:
            futures = self.admin.client.list_offsets(
                {TopicPartition(*place): spec for place in waiting},
                isolation_level=isolation,
                request_timeout=_ADMIN_SECONDS,
            )
            waiting = []
            for partition, future in futures.items():
                place = (partition.topic, partition.partition)
                try:
                    found[place] = (await asyncio.wrap_future(future)).offset
                except KafkaException as raised:
                    error = kafka_error_of(raised)
                    # A topic that was just made, or whose leader moved, has no leader that answers for a moment.
                    if error.code() not in _LEADER_ON_ITS_WAY or asyncio.get_running_loop().time() > deadline:
                        doing = f"asking for the offsets of {partition.topic}[{partition.partition}]"
                        raise self.admin.error(doing, error) from raised
                    waiting.append(place)
            if waiting:
                await asyncio.sleep(0.1)
                # librdkafka keeps the leader, and its epoch, that it knew until somebody asks for metadata anew.
                with contextlib.suppress(KafkaException):
                    await self._clients.call(self.admin.client.list_topics, None, _ADMIN_SECONDS)
        return found


def _of_one(offsets: Mapping[Place, int]) -> dict[int, int]:
    """By partition alone, where all are of one topic."""
    return {number: offset for (_, number), offset in offsets.items()}
