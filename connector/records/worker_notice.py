"""What a worker says of itself in the offsets topic: its name, its client id, the sources it carries. Pure.

A notice is a record of partition 0 with the key `worker.<name>`; its tombstone says that the worker left. One that was
killed leaves its notice behind, so a notice counts only while the group has a member with its client id.
"""

import json
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from connector.kafka.record import Record

NOTICE_PARTITION = 0
_PREFIX = b"worker."


class WorkerNotice(Struct, frozen=True):
    """`sources` maps each flow to its `oci_sync` tasks, by name, and those to their artifacts."""

    name: str
    client_id: str
    sources: Mapping[str, Mapping[str, str]]


def notice_record(topic: str, notice: WorkerNotice) -> Record:
    """The notice as a record."""
    document = {"client_id": notice.client_id, "sources": {flow: dict(tasks) for flow, tasks in notice.sources.items()}}
    value = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Record(topic, NOTICE_PARTITION, _PREFIX + notice.name.encode(), value)


def left_record(topic: str, name: str) -> Record:
    """The tombstone of a notice."""
    return Record(topic, NOTICE_PARTITION, _PREFIX + name.encode(), None)


def living(notices: Iterable[WorkerNotice], members: Collection[str]) -> tuple[WorkerNotice, ...]:
    """The notices of workers that live; `members` are the group's, as `client id @ host`."""
    client_ids = {member.rpartition(" @ ")[0] for member in members}
    return tuple(notice for notice in notices if notice.client_id in client_ids)


def read_notice(record: Record) -> WorkerNotice | None:
    """The notice in a record; None for other records, tombstones, and notices that cannot be read."""
    if not record.key.startswith(_PREFIX) or record.value is None:
        return None
    try:
        document = json.loads(record.value)
        sources = {
            str(flow): {str(task): str(artifact) for task, artifact in tasks.items()}
            for flow, tasks in document["sources"].items()
        }
        return WorkerNotice(
            record.key.removeprefix(_PREFIX).decode("utf-8", "replace"), str(document["client_id"]), sources
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
