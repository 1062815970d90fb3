"""Every format on a real broker and a real schema registry, read back by code that shares nothing with ours.

The decoder below is kafka-python, plain fastavro and HTTP; the schema comes from the registry by the id in the bytes.
"""

import base64
import json
import subprocess
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from connector.kafka.record import murmur2
from tests.system.apicurio import SchemaServer
from tests.system.product import COMMAND, Product, assert_whole, pulls_of
from tests.system.servers import Broker, Oras, Registry

pytestmark = pytest.mark.system

BINARY = b"\x00\xff\xfe binary"
FIRST: dict[str, str | bytes] = {"a.yaml": "a: 1\n", "b/ü.txt": "grüße\n", "logo.bin": BINARY, "empty": ""}
OPTIONS: list[dict[str, object]] = [
    {},
    {"headers": "cloudevents"},
    {"headers": "cloudevents"},
    {"commit_record": True},
    {"format": "raw"},
]
SECOND: dict[str, str | bytes] = {"a.yaml": "a: 2\n", "c.yaml": "new\n", "logo.bin": BINARY, "empty": ""}


class Reader:
    """Raw records of a topic, and what a stranger makes of them."""

    def __init__(self, bootstrap: str, schemas: SchemaServer | None = None) -> None:
        self._bootstrap = bootstrap
        self._schemas = schemas
        self._parsed: dict[int, Any] = {}

    def records(self, topic: str, *, committed: bool = True) -> list[Any]:
        """Everything that is visible now, partition by partition."""
        isolation = "read_committed" if committed else "read_uncommitted"
        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, isolation_level=isolation, enable_auto_commit=False)
        try:
            partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(partitions)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(partitions)
            seen: list[Any] = []
            deadline = time.monotonic() + 20
            while any(consumer.position(one) < ends[one] for one in partitions):
                assert time.monotonic() < deadline, f"the reader of {topic} stands before {ends}"
                for found in consumer.poll(timeout_ms=100).values():
                    seen.extend(found)
            return seen
        finally:
            consumer.close()

    def avro(self, data: bytes) -> dict[str, str]:
        """One value in the Confluent wire format."""
        assert self._schemas is not None
        assert data[0] == 0
        number = int.from_bytes(data[1:5], "big")
        if number not in self._parsed:
            self._parsed[number] = parse_schema(self._schemas.schema(number))
        read = schemaless_reader(BytesIO(data[5:]), self._parsed[number], None)
        assert isinstance(read, dict)
        return read

    def key(self, key_format: str, data: bytes) -> tuple[str, str]:
        """Artifact and path."""
        if key_format == "string":
            artifact, _, path = data.decode().partition("#")
            return artifact, path
        document = json.loads(data) if key_format == "json" else self.avro(data)
        return document["artifact"], document["path"]

    def content(self, name: str, record: Any) -> bytes:
        """The file's bytes."""
        if name == "raw":
            return bytes(record.value)
        document: Any = self.avro(record.value) if name == "avro" else json.loads(record.value)
        document = document["payload"] if name == "json_schema" else document
        assert list(document) == ["path", "content", "digest", "artifact_digest"]
        text = document["content"].encode()
        return base64.b64decode(text) if ("oci.content_encoding", b"base64") in record.headers else text

    def table(self, topic: str, name: str, key_format: str, artifact: str) -> dict[str, bytes]:
        """What a KTable of the topic holds: by the bytes of the key, as Kafka compares them."""
        state: dict[bytes, Any] = {}
        for record in self.records(topic):
            if record.value is None:
                del state[record.key]
            else:
                state[record.key] = record
        table = {}
        for key, record in state.items():
            of, path = self.key(key_format, key)
            assert of == artifact
            table[path] = self.content(name, record)
        return table


def as_bytes(files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    return {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}


def text(name: str, record: Any) -> str:
    return str({header: data.decode() for header, data in record.headers}.get(name, ""))


def new_topic(kafka: Broker, name: str, partitions: int, **config: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        configs = {"cleanup.policy": "compact", **{key.replace("_", "."): value for key, value in config.items()}}
        admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    finally:
        admin.close()


@pytest.mark.parametrize(
    ("name", "key_format"),
    [
        ("avro", "avro"),
        ("avro", "string"),
        ("json_schema", "json"),
        ("raw", "avro"),
        ("json", "json"),
        ("raw", "string"),
    ],
)
def test_a_stranger_rebuilds_the_artifact_from_every_format(
    kafka: Broker, registry: Registry, oras: Oras, apicurio: SchemaServer, tmp_path: Path, unique: str,
    name: str, key_format: str,
) -> None:  # fmt: skip
    artifact = f"{registry.host}/{unique}:prod"
    task = {"format": name, "key_format": key_format, "binary": "base64"}
    worker = {"schema_registry": {"url": apicurio.url}}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task=task, worker=worker)
    reader = Reader(kafka.bootstrap, apicurio)

    for files in (FIRST, SECOND):
        oras.push(artifact, files)
        ended = product.run_once()
        assert ended.returncode == 0, ended.stderr

        assert reader.table(product.topic, name, key_format, artifact) == as_bytes(files)

    peeked = product.call("peek", product.topic, "--snapshot", "--content", "-o", "json")
    rows = [json.loads(line) for line in peeked.stdout.splitlines()]
    assert {(row["artifact"], row["path"], row["format"]) for row in rows} == {
        (artifact, path, name) for path in SECOND
    }
    shown = {row["path"]: row.get("content", row.get("content_base64")) for row in rows}
    assert (shown["c.yaml"], shown["logo.bin"]) == ("new\n", base64.b64encode(BINARY).decode())


def test_without_the_schema_registry_nothing_is_sent_and_a_worker_that_knows_its_ids_goes_on(
    kafka: Broker, registry: Registry, oras: Oras, apicurio: SchemaServer, tmp_path: Path, unique: str
) -> None:
    artifact = f"{registry.host}/{unique}:prod"
    worker = {"schema_registry": {"url": apicurio.url}}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task={"format": "avro"}, worker=worker)
    oras.push(artifact, {"a.yaml": "1"})
    apicurio.stop()

    with product.running() as running:
        running.wait_for(r"registering a schema .*next tick tries again")
        assert Reader(kafka.bootstrap).records(product.topic, committed=False) == []

        apicurio.heal()
        running.wait_for(r"committed 1 files")

        apicurio.stop()
        oras.push(artifact, {"a.yaml": "2", "b.yaml": "3"})
        running.wait_for(r"committed 2 files")
        assert running.end() == 0
    pulls = pulls_of(product.read())
    assert [len(pull) for pull in pulls] == [1, 2]
    for pull in pulls:
        assert_whole(pull)


def test_who_must_not_register_is_refused_until_somebody_else_has(
    kafka: Broker, registry: Registry, oras: Oras, apicurio: SchemaServer, tmp_path: Path, unique: str
) -> None:
    artifact = f"{registry.host}/{unique}:prod"
    worker = {"schema_registry": {"url": apicurio.url, "auto_register": False}}
    task = {"format": "avro", "key_format": "avro"}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task=task, worker=worker)
    oras.push(artifact, {"a.yaml": "1"})

    refused = product.run_once()
    checked = schemas(product, "check")
    assert refused.returncode == 1
    assert "oci-sync schemas register" in refused.stderr
    assert Reader(kafka.bootstrap).records(product.topic, committed=False) == []
    assert checked.returncode == 1

    registered = schemas(product, "register")
    assert registered.returncode == 0, registered.stderr
    assert apicurio.get(f"/config/{product.topic}-value")["compatibilityLevel"] == "BACKWARD_TRANSITIVE"
    assert schemas(product, "check").returncode == 0
    accepted = product.run_once()
    assert accepted.returncode == 0, accepted.stderr


def test_a_subject_whose_rule_refuses_our_schema_gets_no_record(
    kafka: Broker, registry: Registry, oras: Oras, apicurio: SchemaServer, tmp_path: Path, unique: str
) -> None:
    artifact = f"{registry.host}/{unique}:prod"
    worker = {"schema_registry": {"url": apicurio.url}}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task={"format": "avro"}, worker=worker)
    oras.push(artifact, {"a.yaml": "1"})
    other = '{"type":"record","name":"OciFile","namespace":"io.ocisync.v1","fields":[{"name":"x","type":"int"}]}'
    assert apicurio.post(f"/subjects/{product.topic}-value/versions", {"schema": other}) == 200
    assert apicurio.post(f"/config/{product.topic}-value", {"compatibility": "BACKWARD"}, method="PUT") == 200

    refused, checked = product.run_once(), schemas(product, "check")

    assert refused.returncode == 1
    assert "HTTP 409" in refused.stderr
    assert Reader(kafka.bootstrap).records(product.topic, committed=False) == []
    assert (checked.returncode, "incompatible" in checked.stdout) == (1, True)


def test_another_option_emits_anew_although_the_digest_stands(
    kafka: Broker, registry: Registry, oras: Oras, tmp_path: Path, unique: str
) -> None:
    artifact = f"{registry.host}/{unique}:prod"
    oras.push(artifact, {"a.yaml": "1"})
    made = [
        Product(tmp_path / f"p{number}", kafka.bootstrap, artifact, unique, task=task)
        for number, task in enumerate(OPTIONS)
    ]

    for product in made:
        assert product.run_once().returncode == 0

    topic = made[0].topic
    records = Reader(kafka.bootstrap).records(topic)

    assert len({text("oci.pull_id", record) for record in records}) == 4
    assert "(commit record)" in made[0].call("peek", topic).stdout


def test_end_marks_cloud_events_and_the_keys_own_hash_hold_for_readers(
    kafka: Broker, registry: Registry, oras: Oras, tmp_path: Path, unique: str
) -> None:
    artifact = f"{registry.host}/{unique}:prod"
    task = {"commit_record": True, "headers": "cloudevents", "partitioner": "key"}
    worker = {"topics": {"partitions": 3}}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task=task, worker=worker)
    for files in ({f"{n}.yaml": str(n) for n in range(8)}, {"9.yaml": "9"}):
        oras.push(artifact, files)
        ended = product.run_once()
        assert ended.returncode == 0, ended.stderr

    records = Reader(kafka.bootstrap).records(product.topic)

    files_and_tombstones = [record for record in records if text("oci.kind", record) != "commit"]
    for record in files_and_tombstones:
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 3
    for record in records:
        assert text("ce_specversion", record) == "1.0"
        assert text("ce_id", record) == f"{text('oci.pull_id', record)}-{text('oci.position', record)}"
    newest = max(text("oci.pull_id", record) for record in records)
    marks = {record.partition: record for record in records if text("oci.kind", record) == "commit"}
    assert sorted(marks) == [0, 1, 2]
    here = []
    for record in marks.values():
        assert record.key == f"{artifact}#".encode()
        assert text("oci.pull_id", record) == newest
        content = json.loads(json.loads(record.value)["content"])
        assert (content["files"], content["deletes"]) == (1, 8)
        here += list(content["manifest"])
    assert here == ["9.yaml"]
    positions = sorted(int(text("oci.position", one)) for one in records if text("oci.pull_id", one) == newest)
    assert positions == list(range(1 + 8 + 3))


@pytest.mark.parametrize(("name", "key_format"), [("avro", "avro"), ("raw", "json"), ("json_schema", "string")])
def test_the_sink_half_applies_what_every_format_holds_with_commit_records_between(
    kafka: Broker, registry: Registry, oras: Oras, apicurio: SchemaServer, tmp_path: Path, unique: str,
    name: str, key_format: str,
) -> None:  # fmt: skip
    artifact = f"{registry.host}/{unique}:prod"
    task = {
        "format": name, "key_format": key_format, "binary": "base64", "commit_record": True,
    }  # fmt: skip
    worker = {"schema_registry": {"url": apicurio.url}, "topics": {"partitions": 3}}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task=task, worker=worker)
    flow = json.loads(product.flow_file.read_text())
    flow["flow"]["tasks"] += [
        {"buffer": {"name": "whole"}},
        {"diff": {"name": "compare", "owns": ["*"], "routes": [{"match": ".*", "key": "{{ path }}"}]}},
        {"directory_store": {"name": "store", "operation": "apply", "directory": str(tmp_path / "out")}},
    ]
    product.flow_file.write_text(json.dumps(flow))

    for files in (FIRST, SECOND):
        oras.push(artifact, files)
        ended = product.run_once()
        assert ended.returncode == 0, ended.stderr

        out = tmp_path / "out"
        found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert found == as_bytes(files)


@pytest.mark.parametrize(
    "task",
    [{"key_format": "json"}, {"partitioner": "key", "commit_record": True}, {"key_format": "avro"}],
    ids=["json keys", "keys spread", "avro keys"],
)
def test_after_a_lost_offset_a_vanished_file_is_still_removed_whatever_its_key(
    kafka: Broker, registry: Registry, oras: Oras, apicurio: SchemaServer, tmp_path: Path, unique: str,
    task: dict[str, Any],
) -> None:  # fmt: skip
    artifact = f"{registry.host}/{unique}:prod"
    worker = {"topics": {"partitions": 3}, "schema_registry": {"url": apicurio.url}}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task=task, worker=worker)
    oras.push(artifact, {f"{number}.yaml": "x" for number in range(6)})
    assert product.run_once().returncode == 0
    other = {**worker, "group": f"{unique}-2", "offsets": {"topic": f"{unique}-2", "partitions": 4}}
    lost = Product(tmp_path / "q", kafka.bootstrap, artifact, unique, task=task, worker=other)
    oras.push(artifact, {"0.yaml": "y"})

    ended = lost.run_once()

    assert ended.returncode == 0, ended.stderr
    records = Reader(kafka.bootstrap).records(product.topic)
    last = max(text("oci.pull_id", record) for record in records)
    newest = [record for record in records if text("oci.pull_id", record) == last]
    assert {text("oci.deletes", record) for record in newest} == {"5"}
    state = {record.key: record for record in records}
    alive = [record for record in state.values() if record.value is not None and not text("oci.kind", record)]
    assert [text("oci.pull_id", record) for record in alive] == [last]


def test_a_partition_that_no_key_hashed_to_is_not_taken_for_a_lost_topic(
    kafka: Broker, registry: Registry, oras: Oras, tmp_path: Path, unique: str
) -> None:
    artifact = f"{registry.host}/{unique}:prod"
    task, worker = {"partitioner": "key"}, {"topics": {"partitions": 20}}
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task=task, worker=worker)
    oras.push(artifact, {"a.yaml": "1"})

    for _ in range(2):
        assert product.run_once().returncode == 0

    assert len(Reader(kafka.bootstrap).records(product.topic)) == 1


@pytest.mark.parametrize("oversize", ["error", "skip", "reference"])
def test_a_file_too_large_for_the_topic_is_what_the_task_says(
    kafka: Broker, registry: Registry, oras: Oras, tmp_path: Path, unique: str, oversize: str
) -> None:
    artifact = f"{registry.host}/{unique}:prod"
    product = Product(tmp_path / "p", kafka.bootstrap, artifact, unique, task={"oversize": oversize})
    new_topic(kafka, product.topic, 1, max_message_bytes="20000")
    oras.push(artifact, {"grows.yaml": "small", "other.yaml": "x"})
    assert product.run_once().returncode == 0

    oras.push(artifact, {"grows.yaml": "y" * 30_000, "new.yaml": "z" * 30_000, "other.yaml": "x"})
    planned = product.call("plan", str(product.flow_file), "-o", "json")
    ended = product.run_once()

    pulls = pulls_of(product.read())
    if oversize == "error":
        assert ended.returncode == 1
        assert "RecordTooLarge" in ended.stderr or "max.message.bytes=20000" in ended.stderr
        assert len(pulls) == 1
        return
    assert ended.returncode == 0, ended.stderr
    assert "2 files are too large for topic" in ended.stderr
    assert_whole(pulls[1])
    [offset] = product.offsets().values()
    changes = {record.path: (record.change, record.value is None) for record in pulls[1]}
    assert planned.returncode == 2, planned.stderr
    foreseen = {row["path"]: row["change"] for row in json.loads(planned.stdout)}
    assert foreseen == {path: change for path, (change, _) in changes.items() if change != "unchanged"}
    if oversize == "skip":
        assert changes == {"other.yaml": ("unchanged", False), "grows.yaml": ("removed", True)}
        assert set(offset["paths"]) == {"other.yaml"}
        assert (offset["files"], offset["deletes"], offset["bytes"]) == (1, 1, 1)
        return
    assert changes == {
        "grows.yaml": ("modified", False), "new.yaml": ("added", False), "other.yaml": ("unchanged", False),
    }  # fmt: skip
    assert set(offset["paths"]) == {"grows.yaml", "new.yaml", "other.yaml"}
    large = next(record for record in pulls[1] if record.path == "new.yaml")
    assert (large.content, large.headers["oci.size"], large.headers["oci.oversize"]) == ("", "30000", "reference")


def schemas(product: Product, verb: str) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, "schemas", verb, "-c", str(product.worker_file), str(product.flow_file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
