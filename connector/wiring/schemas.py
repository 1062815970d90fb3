"""The schemas that flows need, against a schema registry: what `schemas` registers and checks, and `validate` asks."""

from collections.abc import Sequence

from msgspec import Struct

from connector.config.flow_file import Flow
from connector.config.problem import Finding
from connector.config.worker_file import Worker
from connector.errors import OciSyncError
from connector.kafka.schema_registry import SchemaRegistry
from connector.records.encoder import build_format, subjects
from connector.records.schemas import FILE_KEY, registered_text
from connector.source.tasks import oci_sync
from connector.wiring.source_half import build_schema_registry, sync_tasks, topic_of

# A key's schema must never get a second version: its id is part of every key. NONE is what Confluent's own clients are
# told for keys; what protects them is that nobody registers another.
KEY_LEVEL = "NONE"
VALUE_LEVEL = "BACKWARD_TRANSITIVE"


class Subject(Struct, frozen=True):
    """One subject that a flow needs, the schema's name, and the compatibility level it should have."""

    name: str
    schema: str

    @property
    def level(self) -> str:
        """What keeps readers safe."""
        return KEY_LEVEL if self.schema == FILE_KEY else VALUE_LEVEL


def subjects_of(worker: Worker, flows: Sequence[Flow]) -> list[Subject]:
    """The subjects of all flows, each once; none where nothing is Avro."""
    subject_name = worker.schema_registry.subject_name if worker.schema_registry else "topic"
    found: dict[Subject, None] = {}
    for flow in flows:
        for task in sync_tasks(flow):
            assert isinstance(task.fields, oci_sync.Fields)
            needed = subjects(
                topic_of(flow, task), build_format(task.fields.format).schema, task.fields.key_format, subject_name
            )
            found |= dict.fromkeys(Subject(name, schema) for name, schema in needed)
    return list(found)


async def check_subject(registry: SchemaRegistry, subject: Subject) -> dict[str, object]:
    """How one subject stands: a row with `state` registered, missing or incompatible. Raises OutputError."""
    schema = registered_text(subject.schema)
    latest = await registry.latest(subject.name)
    found = await registry.look_up(subject.name, schema) if latest is not None else None
    if found is not None:
        state = "registered"
    else:
        state = "missing" if await registry.is_compatible(subject.name, schema) else "incompatible"
    return {
        "subject": subject.name,
        "schema": subject.schema,
        "state": state,
        "id": found,
        "latest_version": latest.version if latest is not None else None,
        "compatibility": await registry.compatibility(subject.name),
    }


async def register_subject(registry: SchemaRegistry, subject: Subject) -> dict[str, object]:
    """Register one schema and give its subject the level that keeps readers safe. Raises OutputError."""
    found = await registry.register(subject.name, registered_text(subject.schema))
    await registry.set_compatibility(subject.name, subject.level)
    return {"subject": subject.name, "schema": subject.schema, "id": found, "compatibility": subject.level}


async def probe_schemas(worker: Worker, flows: Sequence[Flow]) -> list[Finding]:
    """What `validate` says of the schema registry; nothing where no flow needs one. Writes nothing."""
    needed = subjects_of(worker, flows)
    registry = build_schema_registry(worker)
    if registry is None:
        cause = "Avro needs a schema registry: set schema_registry.url in worker.yaml"
        return [Finding(f"subject {subject.name}", "SchemaRejected", cause) for subject in needed]
    findings: list[Finding] = []
    may_register = worker.schema_registry is not None and worker.schema_registry.auto_register
    for subject in needed:
        place = f"subject {subject.name}"
        try:
            row = await check_subject(registry, subject)
        except OciSyncError as error:
            findings.append(Finding(place, error.reason, f"{error.doing}: {error.cause} ({error.remedy})"))
            continue
        findings.append(_finding(place, row, may_register=may_register))
    return findings


def _finding(place: str, row: dict[str, object], *, may_register: bool) -> Finding:
    match row["state"]:
        case "registered":
            return Finding(place, None, f"has our schema with id {row['id']}")
        case "missing" if may_register:
            return Finding(place, None, "has not got our schema yet; run registers it")
        case "missing":
            remedy = "oci-sync schemas register FLOW (operator)"
            return Finding(place, "SchemaRejected", f"has not got our schema, and auto_register is false ({remedy})")
        case _:
            cause = f"holds a schema that ours is not compatible with ({row['compatibility']})"
            return Finding(place, "SchemaRejected", f"{cause}; name another topic, or remove that schema (operator)")
