"""The sink half: from the tasks behind `oci_sync` to a pipeline. Needs no registry and no credentials of `oci_sync`."""

from connector.config.flow_file import Flow, LoadedFlows
from connector.config.worker_file import Worker
from connector.errors import ConfigError
from connector.kafka.group_feed import GroupFeed
from connector.oci.clock import SystemClock
from connector.sink.flow_sink import build_lines
from connector.sink.parts import Parts as SinkParts
from connector.sink.pipeline import Pipeline
from connector.wiring.parts import Parts, membership_properties
from connector.wiring.source_half import sync_tasks, topic_of


def sink_group(worker: Worker, flow: str) -> str:
    """The consumer group of a flow's sink half: one a flow, so that flows do not wait for each other."""
    return f"{worker.group}-sink-{flow}"


def build_feed(parts: Parts, flow: Flow) -> GroupFeed:
    """A member of the flow's group on its topics."""
    worker = parts.worker
    return GroupFeed(
        parts.clients,
        group=sink_group(worker, flow.name),
        topics=sorted(topics_of(flow)),
        instance_id=worker.group_instance_id,
        properties=membership_properties(worker),
    )


def build_pipeline(parts: Parts, flow: Flow, feed: GroupFeed) -> Pipeline:
    """The sink half of one flow. Raises ConfigError for a chain of tasks that is none."""
    lines = build_lines(flow, sink_parts(parts, flow))
    return Pipeline(flow.name, lines, feed, topics_of(flow), parts.status, SystemClock())


def sink_parts(parts: Parts, flow: Flow) -> SinkParts:
    """What the tasks of the flow's sink half are built with."""
    return SinkParts(flow=flow.name, max_total_size=parts.worker.limits.max_total_size, kafka=parts.worker.kafka)


def topics_of(flow: Flow) -> frozenset[str]:
    """The topics that the flow's `oci_sync` tasks write to."""
    return frozenset(topic_of(flow, task) for task in sync_tasks(flow))


def without_misshapen(loaded: LoadedFlows) -> LoadedFlows:
    """The flows whose sink half is a line of tasks that can work; the others join those that are refused."""
    usable: list[Flow] = []
    refused = list(loaded.refused)
    for flow in loaded.flows:
        try:
            build_lines(flow, SinkParts(flow=flow.name))
        except ConfigError as error:
            refused.append((flow.path, error))
        else:
            usable.append(flow)
    return LoadedFlows(tuple(usable), tuple(refused))
