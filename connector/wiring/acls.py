"""The ACLs that flows need on the worker's cluster, both halves and their stores."""

from collections.abc import Sequence

from connector.config.flow import Flow
from connector.config.task import Half
from connector.config.worker_file import Worker
from connector.kafka.acls import Acl, acls_of_sink, acls_of_source, acls_of_store, merged
from connector.sink.tasks import kafka_topic_store
from connector.wiring.sink_half import sink_group
from connector.wiring.source_half import sync_tasks, topic_of


def acls_of(worker: Worker, flows: Sequence[Flow], only: Half | None) -> list[Acl]:
    """One entry a resource. A store on another cluster is that cluster's affair and not among them."""
    source = _of_source(worker, flows) if only != "sink" else []
    sink = [acl for flow in flows for acl in _of_sink(worker, flow)] if only != "source" else []
    return merged([*source, *sink])


def _of_source(worker: Worker, flows: Sequence[Flow]) -> list[Acl]:
    return acls_of_source(
        worker.group,
        worker.offsets.topic,
        list(dict.fromkeys(topic for flow in flows for topic in _topics(flow))),
        is_fenced=worker.delivery == "exactly_once",
        creates=worker.topics.manage == "create",
    )


def _of_sink(worker: Worker, flow: Flow) -> list[Acl]:
    if not flow.sink_tasks:
        return []
    stores = [acl for task in flow.sink_tasks for acl in _of_store(flow, task.fields)]
    return [*acls_of_sink(sink_group(worker, flow.name), _topics(flow)), *stores]


def _topics(flow: Flow) -> list[str]:
    return [topic_of(flow, task) for task in sync_tasks(flow)]


def _of_store(flow: Flow, fields: object) -> list[Acl]:
    if not isinstance(fields, kafka_topic_store.Fields) or "bootstrap.servers" in fields.kafka:
        return []
    transactional_id = kafka_topic_store.transactional_id(flow.name, fields.name)
    return acls_of_store(transactional_id, fields.topic, creates=fields.create_topic)
