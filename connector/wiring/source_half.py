"""The source half: from an `oci_sync` task to a source that ticks, and from many of them to a worker."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from connector.config.flow_file import Flow, Task
from connector.config.task import RetryFields
from connector.config.worker_file import Worker as WorkerFile
from connector.errors import OciSyncError
from connector.kafka.record import partition_for
from connector.kafka.schema_registry import RegistrySettings, SchemaRegistry
from connector.kafka.topics import Topic, TopicSpec, layer_topic, offsets_topic
from connector.layers.extract import ExtractOptions
from connector.layers.limits import max_decompressed_size
from connector.oci.blob import Blobs
from connector.oci.platform import parse_platform
from connector.oci.reference import parse_reference
from connector.oci.registry import Registry
from connector.oci.retry import RetryPolicy
from connector.records.encoder import Encoding, build_format
from connector.records.source_offset import offset_key, settings_fingerprint
from connector.source.group import Group
from connector.source.outcome import Progress, silent
from connector.source.source import Source
from connector.source.surroundings import ScheduledSource
from connector.source.tasks import generate, oci_sync
from connector.source.worker import Worker
from connector.status import SourceId, Status
from connector.telemetry import traceparent, uuid7
from connector.wiring.parts import Parts, membership_properties

# The options of `oci_sync` beyond the first ones that shape records.
_SHAPING = {"key_format", "headers", "partitioner", "commit_record", "oversize"}


def topic_specs(worker: WorkerFile, flows: Sequence[Flow]) -> list[TopicSpec]:
    """The topics that the source half writes to, as they must be."""
    specs = [
        offsets_topic(
            worker.offsets.topic,
            partitions=worker.offsets.partitions,
            replication_factor=worker.topics.replication_factor,
        )
    ]
    names = {topic_of(flow, task): None for flow in flows for task in sync_tasks(flow)}
    specs += [
        layer_topic(
            name,
            partitions=worker.topics.partitions,
            replication_factor=worker.topics.replication_factor,
            max_file_size=worker.limits.max_file_size,
        )
        for name in names
    ]
    return specs


def sync_tasks(flow: Flow) -> tuple[Task, ...]:
    """The `oci_sync` tasks of a flow."""
    return tuple(task for task in flow.source_tasks if isinstance(task.fields, oci_sync.Fields))


def topic_of(flow: Flow, task: Task) -> str:
    """The topic of an `oci_sync` task: the one it names, else `oci.<flow>`."""
    assert isinstance(task.fields, oci_sync.Fields)
    return task.fields.topic or f"oci.{flow.name}"


def build_source(parts: Parts, flow: Flow, task: Task, topic_partitions: int) -> Source:
    """An `oci_sync` task, resolved. Raises ConfigError BadValue for a reference or platform that is none."""
    fields, worker = task.fields, parts.worker
    assert isinstance(fields, oci_sync.Fields)
    key = offset_key(flow.name, fields.artifact)
    topic = topic_of(flow, task)
    options = ExtractOptions(
        max_file_size=worker.limits.max_file_size,
        max_total_size=worker.limits.max_total_size,
        max_entries=worker.limits.max_entries,
        # A raw value takes any bytes; only a format with text in it must be told what to do with the rest.
        binary="base64" if fields.format == "raw" and fields.binary == "error" else fields.binary,
        include=fields.include,
        exclude=fields.exclude,
        include_media_types=fields.include_media_types,
        exclude_media_types=fields.exclude_media_types,
        allow_empty=fields.allow_empty,
    )
    shaping = {
        "platform": fields.platform,
        "include": fields.include,
        "exclude": fields.exclude,
        "include_media_types": fields.include_media_types,
        "exclude_media_types": fields.exclude_media_types,
        "binary": fields.binary,
        "format": fields.format,
        "topic": topic,
        "topic_partitions": topic_partitions,
        # Only where they are used: an option that a new version brings must not make every source emit anew.
        **{
            name: value
            for name, value in fields.model_dump(include=_SHAPING).items()
            if value != type(fields).model_fields[name].default
        },
    }
    return Source(
        flow=flow.name,
        name=task.name,
        reference=parse_reference(fields.artifact),
        platform=parse_platform(fields.platform) if fields.platform else None,
        options=options,
        topic=topic,
        topic_partitions=topic_partitions,
        offsets_topic=worker.offsets.topic,
        offsets_partitions=worker.offsets.partitions,
        offset_key=key,
        offset_partition=partition_for(key, worker.offsets.partitions),
        settings=settings_fingerprint(shaping),
        force_pull=fields.force_pull,
        timeout=fields.timeout,
        worker=worker.worker_name,
        key_format=fields.key_format,
        partitioner=fields.partitioner,
        commit_record=fields.commit_record,
        oversize=fields.oversize,
    )


def build_registry(parts: Parts, task: Task, told: Callable[[OciSyncError, int], None] | None = None) -> Registry:
    """The registry as the task's credentials open it."""
    fields = task.fields
    assert isinstance(fields, oci_sync.Fields)
    retry = fields.retry if "retry" in fields.model_fields_set else parts.worker.retry
    most = parts.worker.limits.max_layers
    return Registry(parts.hosts, fields.credentials_path, _retry(retry), max_layers=most, told=told)


def build_blobs(parts: Parts, registry: Registry) -> Blobs:
    """Blobs through the spool and its cache; no artifact may ask for more than may come out of it."""
    most = max_decompressed_size(parts.worker.limits.max_total_size)
    return Blobs(registry, parts.blob_store, max_bytes=most)


def build_encoding(flow: Flow, task: Task, schemas: SchemaRegistry | None) -> Encoding:
    """How the task's records look."""
    fields = task.fields
    assert isinstance(fields, oci_sync.Fields)
    return Encoding(topic_of(flow, task), build_format(fields.format), fields.key_format, fields.headers, schemas)


def build_schema_registry(worker: WorkerFile) -> SchemaRegistry | None:
    """The client of the worker's schema registry; None where it names none."""
    fields = worker.schema_registry
    return None if fields is None else SchemaRegistry(RegistrySettings(**fields.model_dump()))


def build_sources(
    parts: Parts, flows: Sequence[Flow], topics: Mapping[str, Topic], progress: Progress = silent
) -> list[ScheduledSource]:
    """Every source of the flows, ready to tick. `topics` are those of `topic_specs`, as they are."""
    sources: list[ScheduledSource] = []
    schemas = build_schema_registry(parts.worker)
    for flow in flows:
        for task in sync_tasks(flow):
            assert isinstance(task.fields, oci_sync.Fields)
            registry = build_registry(parts, task, partial(_retries, parts.status, SourceId(flow.name, task.name)))
            ticker = oci_sync.OciSync(
                build_source(parts, flow, task, topics[topic_of(flow, task)].partitions),
                registry,
                build_blobs(parts, registry),
                build_encoding(flow, task, schemas),
                parts.spool,
                new_pull_id=lambda: uuid7(now_ms(), os.urandom(10)),
                now_ms=now_ms,
                new_traceparent=lambda: traceparent(os.urandom(24)),
                record_limit=partial(_record_limit, parts, topic_of(flow, task)),
                progress=progress,
            )
            beat = [above.fields for above in flow.upstream(task) if isinstance(above.fields, generate.Fields)][-1]
            sources.append(ScheduledSource(ticker, generate.build(beat)))
    return sources


def build_source_worker(parts: Parts, sources: Sequence[ScheduledSource], *, once: bool) -> Worker:
    """The source half."""
    return Worker(
        sources,
        parts.clients,
        parts.topics,
        parts.changelog,
        group_of(parts.worker),
        parts.status,
        parts.telemetry,
        once=once,
    )


def group_of(worker: WorkerFile) -> Group:
    """The consumer group of the source half, as the worker file wants it."""
    return Group(
        name=worker.group,
        offsets_topic=worker.offsets.topic,
        is_fenced=worker.delivery == "exactly_once",
        instance_id=worker.group_instance_id,
        properties=membership_properties(worker),
    )


def _retry(fields: RetryFields) -> RetryPolicy:
    return RetryPolicy(max_attempts=fields.max_attempts, initial_backoff=fields.initial_backoff)


async def _record_limit(parts: Parts, topic: str) -> int | None:
    """max.message.bytes of the topic as it is now; None where it is hidden from us."""
    found = (await parts.topics.describe([topic])).get(topic)
    return found.max_message_bytes if found is not None else None


def now_ms() -> int:
    """Milliseconds since 1970, as Kafka counts."""
    return time.time_ns() // 1_000_000


def _retries(status: Status, source: SourceId, error: OciSyncError, attempt: int) -> None:
    status.source_retries(source, datetime.now(UTC), error, attempt)
