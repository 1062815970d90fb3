"""What `validate` asks of the world: each registry, Kafka, each store; with the parts that `run` would use.

Nothing is written and nothing is created: a missing topic is reported as one that `run` will create, or refused where
it may not. Each question yields one Finding, and a failure of one does not keep the others from being asked. What the
other half alone needs is not asked: its credentials, groups and addresses may be no business of this host.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from connector.config.flow import Flow, Task, with_sinks
from connector.config.problem import Finding
from connector.config.task import Half
from connector.config.worker_file import Worker
from connector.errors import OciSyncError
from connector.kafka.groups import group_members
from connector.kafka.topics import Topic, TopicSpec, misfits, too_small
from connector.oci.reference import parse_reference
from connector.sink.flow_sink import build_lines
from connector.source.tasks import oci_sync
from connector.wiring.parts import Parts, open_parts
from connector.wiring.schemas import probe_schemas
from connector.wiring.sink_half import sink_group, sink_parts
from connector.wiring.source_half import build_registry, build_source, sync_tasks, topic_specs

_AT_ONCE = 8


async def probe(worker: Worker, flows: Sequence[Flow], only: Half | None = None) -> list[Finding]:
    """Every finding: Kafka first, then each source in the order of the files. `only`: what that half will need."""
    async with open_parts(worker) as parts:
        if only == "sink":
            findings = await _kafka_of_sinks(parts, with_sinks(flows))
        else:
            findings = await _kafka(parts, topic_specs(worker, flows), [worker.group])
            findings += await _sources(parts, flows)
            findings += await probe_schemas(worker, flows)
        if only != "source":
            for flow in flows:
                findings += await _stores(parts, flow)
    return findings


async def _sources(parts: Parts, flows: Sequence[Flow]) -> list[Finding]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def ask(flow: Flow, task: Task) -> list[Finding]:
        async with limit:
            return await _source(parts, flow, task)

    asked = [ask(flow, task) for flow in flows for task in sync_tasks(flow)]
    return [finding for found in await asyncio.gather(*asked) for finding in found]


async def _stores(parts: Parts, flow: Flow) -> list[Finding]:
    findings: list[Finding] = []
    try:
        lines = build_lines(flow, sink_parts(parts, flow))
    except OciSyncError as error:
        return [_failed(f"{flow.name}", error)]
    for line in lines:
        subject = f"{flow.name}/{line.chain.name}"
        try:
            findings.append(Finding(subject, None, await line.chain.probe()))
        except OciSyncError as error:
            findings.append(_failed(subject, error))
        finally:
            await line.chain.close()
    return findings


async def _kafka_of_sinks(parts: Parts, flows: Sequence[Flow]) -> list[Finding]:
    """The topics that sinks read and the groups they read in; a sink has no rights on the offsets topic."""
    offsets = parts.worker.offsets.topic
    specs = [spec for spec in topic_specs(parts.worker, flows) if spec.name != offsets]
    groups = [sink_group(parts.worker, flow.name) for flow in flows]
    return await _kafka(parts, specs, groups, maker="the source half")


async def _kafka(parts: Parts, specs: Sequence[TopicSpec], groups: Sequence[str], maker: str = "run") -> list[Finding]:
    subject = f"kafka {parts.worker.bootstrap}"
    try:
        found = await parts.topics.describe([spec.name for spec in specs])
        members = {group: await group_members(parts.topics.admin, group) for group in groups}
    except OciSyncError as error:
        return [_failed(subject, error)]
    joined = [
        f"; group {group} has {f'{len(those)} live members' if those else 'no live member'}"
        for group, those in members.items()
    ]
    findings = [Finding(subject, None, f"answers{''.join(joined)}")]
    return [*findings, *[_topic(parts, spec, found.get(spec.name), maker) for spec in specs]]


def _topic(parts: Parts, spec: TopicSpec, topic: Topic | None, maker: str) -> Finding:
    subject, bootstrap = f"topic {spec.name}", parts.worker.bootstrap
    if topic is None:
        if parts.worker.topics.manage == "create":
            return Finding(subject, None, f"does not exist yet; {maker} creates it with {spec.partitions} partition(s)")
        return Finding(subject, "TopicMissing", "does not exist, and topics.manage is 'check' (operator)")
    for cause, remedy in misfits(spec, topic, bootstrap):
        return Finding(subject, "TopicMisfit", f"{cause} ({remedy})")
    small = too_small(spec, topic, bootstrap)
    if small is not None:
        return Finding(subject, None, f"fits, but: {small}")
    limit = topic.max_message_bytes
    shown = "its settings are hidden from us" if limit is None else f"max.message.bytes={limit}"
    return Finding(subject, None, f"fits: {topic.partitions} partition(s), {shown}")


async def _source(parts: Parts, flow: Flow, task: Task) -> list[Finding]:
    fields = task.fields
    assert isinstance(fields, oci_sync.Fields)
    subject = f"{flow.name}/{task.name} {fields.artifact}"
    with_credentials = _with_credentials(fields.credentials_path)
    try:
        source = build_source(parts, flow, task, topic_partitions=1)
        registry = build_registry(parts, task)
        head = await registry.head(source.reference)
        pulled = await registry.manifest(source.reference, head.digest, source.platform)
    except OciSyncError as error:
        return [_failed(subject, error)]
    layers = pulled.manifest.layers
    size = sum(layer.size_bytes for layer in layers)
    message = f"{head.digest}, {len(layers)} layer(s), {size} bytes, {with_credentials}"
    findings = [Finding(subject, None, message)]
    if parse_reference(fields.artifact).is_default_tag:
        findings.append(Finding(subject, None, "names no tag, so 'latest' is followed; write the tag that is meant"))
    return findings


def _with_credentials(path: Path | None) -> str:
    return "anonymously" if path is None else f"with {path}"


def _failed(subject: str, error: OciSyncError) -> Finding:
    return Finding(subject, error.reason, f"{error.doing}: {error.cause} ({error.remedy})")
