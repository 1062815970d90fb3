"""Ask the owner of a source for something, through Kafka; and find out which sources there are, from Kafka alone."""

import asyncio
import os
import socket
import time

from msgspec import Struct

from connector.errors import OutputError
from connector.kafka.groups import group_members
from connector.kafka.notice import post
from connector.kafka.record import Record, partition_for
from connector.records.request import Request, RequestKind, done_record, read_request, request_key, request_record
from connector.records.source_offset import SourceOffset, read_offset, split_offset_key
from connector.records.worker_notice import WorkerNotice, living, read_notice
from connector.source.errand import run_errand
from connector.telemetry import uuid7
from connector.wiring.parts import Parts
from connector.wiring.source_half import group_of, now_ms

_LOOK_SECONDS = 0.2


class KnownSource(Struct, frozen=True):
    """A source as Kafka knows it. `task` is None where no live worker names it, `offset` before the first commit."""

    flow: str
    artifact: str
    task: str | None
    offset: SourceOffset | None
    paused: bool

    @property
    def name(self) -> str:
        """`<flow>/<task>`, or the flow and artifact where the task is not known."""
        return f"{self.flow}/{self.task}" if self.task is not None else f"{self.flow} {self.artifact}"


class Known(Struct, frozen=True):
    """What the offsets topic and the group tell. `workers` holds the live ones only."""

    partitions: int
    sources: tuple[KnownSource, ...]
    workers: tuple[WorkerNotice, ...]
    members: tuple[str, ...]


async def known(parts: Parts) -> Known:
    """Read the offsets topic whole. Raises OutputError TopicMissing, KafkaUnreachable, …"""
    topic = parts.worker.offsets.topic
    found = (await parts.topics.describe([topic])).get(topic)
    if found is None:
        raise OutputError(
            reason="TopicMissing",
            doing=f"reading the offsets topic {topic}",
            cause=f"the cluster at {parts.worker.bootstrap} has no such topic",
            remedy="check offsets.topic and kafka in worker.yaml; a worker creates it at its first start",
        )
    restored = await parts.changelog.read(topic, list(range(found.partitions)), lambda record: record)
    records = [record for partition in restored.values() for record in partition.entries.values()]
    members = tuple(await group_members(parts.topics.admin, parts.worker.group))
    notices = [notice for record in records if (notice := read_notice(record)) is not None]
    live = living(notices, members)
    return Known(found.partitions, _sources(records, live), live, members)


async def ask(
    parts: Parts,
    now: Known,
    kind: RequestKind,
    source: KnownSource,
    *,
    digest: str | None = None,
    force: bool = False,
    wait_seconds: float = 30.0,
) -> bool:
    """Ask, and wait until it was carried out; False when it was not by then (the request stays).

    `now` is what was known just before, `source` one of it. With no live worker, `reset` and `set` are carried out by
    this process, as a member of the group; `trigger` and `pause` wait for the next worker. Raises OutputError.
    """
    request = Request(
        kind, source.flow, source.artifact, id=uuid7(now_ms(), os.urandom(10)), at=now_ms(),
        by=f"{os.environ.get('USER', 'somebody')}@{socket.gethostname()}", digest=digest, force=force,
    )  # fmt: skip
    partition = partition_for(request.offset_key, now.partitions)
    if kind in (RequestKind.RESET, RequestKind.SET) and not now.members:
        topic = parts.worker.offsets.topic
        limits = {topic: (await parts.topics.describe([topic]))[topic].max_message_bytes}
        await run_errand(parts.clients, parts.changelog, group_of(parts.worker), request, partition, limits)
        return True
    record = request_record(parts.worker.offsets.topic, now.partitions, request)
    await post(parts.clients, [record], f"asking for {kind.value} of {source.name}")
    if kind is RequestKind.PAUSE:
        return True
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        if not await _waits(parts, request, partition):
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False


async def resume(parts: Parts, now: Known, source: KnownSource) -> None:
    """Take a pause back. Raises OutputError."""
    request = Request(RequestKind.PAUSE, source.flow, source.artifact, id="", at=now_ms(), by="")
    partition = partition_for(request.offset_key, now.partitions)
    await post(parts.clients, [done_record(parts.worker.offsets.topic, partition, request)], f"resuming {source.name}")


async def _waits(parts: Parts, request: Request, partition: int) -> bool:
    restored = await parts.changelog.read(parts.worker.offsets.topic, [partition], lambda record: record)
    record = restored[partition].entries.get(request.key)
    waiting = None if record is None else read_request(record)
    return waiting is not None and waiting.id == request.id


def find(sources: tuple[KnownSource, ...], name: str) -> list[KnownSource]:
    """The sources that a name means: `<flow>/<task>`, an artifact as configured, or a flow (all of its sources).

    Raises OutputError OffsetLost, with the names there are, where it means none.
    """
    exact = [one for one in sources if name in (one.name, one.artifact)]
    meant = exact or [one for one in sources if one.flow == name]
    if meant:
        return meant
    names = ", ".join(one.name for one in sources[:20]) or "none"
    raise OutputError(
        reason="OffsetLost",
        doing=f"looking for the source {name}",
        cause=f"neither the offsets topic nor a live worker knows it; known are: {names}",
        remedy="give <flow>/<task>, a flow, or an artifact as configured",
    )


def _sources(records: list[Record], live: tuple[WorkerNotice, ...]) -> tuple[KnownSource, ...]:
    tasks = {
        (flow, artifact): task
        for notice in live
        for flow, named in notice.sources.items()
        for task, artifact in named.items()
    }
    offsets: dict[tuple[str, str], SourceOffset | None] = dict.fromkeys(tasks)
    keys = {record.key for record in records}
    for record in records:
        name = split_offset_key(record.key)
        if name is not None and record.value is not None:
            offsets[name] = _readable(record)
    return tuple(
        KnownSource(
            flow, artifact, tasks.get((flow, artifact)), offset,
            paused=request_key(RequestKind.PAUSE, flow, artifact) in keys,
        )
        for (flow, artifact), offset in sorted(offsets.items(), key=lambda item: item[0])
    )  # fmt: skip


def _readable(record: Record) -> SourceOffset | None:
    try:
        return read_offset(record.key, record.value or b"")
    except OutputError:
        return None
