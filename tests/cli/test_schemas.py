"""`oci-sync schemas`: print, register, check, against a registry over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connector.cli import execute
from connector.config.flow_file import load_flows
from connector.config.worker_file import load_worker
from connector.records.schemas import registered_text
from connector.wiring.schemas import probe_schemas
from tests.fakes.schema_registry import FakeSchemaRegistry


@pytest.fixture
def fake() -> Iterator[FakeSchemaRegistry]:
    with FakeSchemaRegistry() as server:
        yield server


def files(folder: Path, url: str | None, *tasks: dict[str, Any], **settings: object) -> tuple[str, str, str]:
    """The arguments of a verb: worker file and flow file."""
    beat = {"generate": {"name": "tick", "interval": "30s"}}
    syncs = [
        {
            "oci_sync": {
                "name": f"pull{number}",
                "artifact": f"reg.example.com/a:{number}",
                "depends_on": ["tick"],
                **task,
            }
        }
        for number, task in enumerate(tasks)
    ]
    (folder / "flow.yaml").write_text(json.dumps({"flow": {"name": "f", "tasks": [beat, *syncs]}}))
    worker = {} if url is None else {"schema_registry": {"url": url, **settings}}
    (folder / "worker.yaml").write_text(json.dumps(worker))
    return "-c", str(folder / "worker.yaml"), str(folder / "flow.yaml")


@pytest.mark.parametrize(
    ("which", "name"), [("key", "OciFileKey"), ("value", "OciFile"), ("offset", "OciSourceOffset")]
)
def test_a_schema_is_printed_as_it_is_published(which: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["schemas", "print", which]) == 0

    assert json.loads(capsys.readouterr().out)["name"] == name


def test_the_description_of_the_topics_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["schemas", "print", "asyncapi"]) == 0

    assert capsys.readouterr().out.startswith("asyncapi: 3.0.0\n")


def test_what_the_flows_need_is_registered_once_with_its_level(
    fake: FakeSchemaRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    avro = {"format": "avro", "key_format": "avro"}
    arguments = files(tmp_path, fake.url, avro, avro, {"format": "raw", "topic": "other"}, auto_register=False)

    assert execute(["schemas", "check", *arguments]) == 1
    assert execute(["schemas", "register", *arguments]) == 0
    capsys.readouterr()
    assert execute(["schemas", "check", *arguments, "-o", "json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert [(row["subject"], row["state"], row["compatibility"]) for row in rows] == [
        ("oci.f-key", "registered", "NONE"),
        ("oci.f-value", "registered", "BACKWARD_TRANSITIVE"),
    ]
    assert fake.schemas == [registered_text("oci-file-key"), registered_text("oci-file-value")]


def test_what_would_be_refused_is_found_before_a_worker_meets_it(
    fake: FakeSchemaRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = files(tmp_path, fake.url, {"format": "avro"})
    assert execute(["schemas", "check", *arguments]) == 0  # missing, but run may register it
    fake.subjects["oci.f-value"] = []
    fake.schemas.append('"another"')
    fake.subjects["oci.f-value"].append(1)
    fake.incompatible = "OciFile"

    assert execute(["schemas", "check", *arguments]) == 1

    assert "incompatible" in capsys.readouterr().out


def test_subjects_by_record_are_shared_by_all_topics(fake: FakeSchemaRegistry, tmp_path: Path) -> None:
    tasks = {"format": "avro", "topic": "a"}, {"format": "avro", "topic": "b"}

    assert execute(["schemas", "register", *files(tmp_path, fake.url, *tasks, subject_name="record")]) == 0

    assert list(fake.subjects) == ["io.ocisync.v1.OciFile"]


def test_a_flow_without_avro_asks_nothing(fake: FakeSchemaRegistry, tmp_path: Path) -> None:
    assert execute(["schemas", "check", *files(tmp_path, fake.url, {})]) == 0

    assert fake.requests == []


def test_without_a_schema_registry_the_missing_setting_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["schemas", "check", *files(tmp_path, None, {"format": "avro"})]) == 1

    assert "schema_registry.url" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://user:s3cret@registry:8081", "ftp://registry", "http://", "http://a?b=c"])
def test_an_address_that_is_none_or_holds_a_secret_is_refused_unseen(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["schemas", "check", *files(tmp_path, url, {"format": "avro"})]) == 1

    said = capsys.readouterr().err
    assert "schema_registry.url" in said or "url" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("settings", "reason", "words"),
    [({}, None, "run registers it"), ({"auto_register": False}, "SchemaRejected", "oci-sync schemas register")],
)
async def test_validate_says_what_a_worker_would_meet(
    fake: FakeSchemaRegistry, tmp_path: Path, settings: dict[str, Any], reason: str | None, words: str
) -> None:
    files(tmp_path, fake.url, {"format": "avro"}, **settings)
    worker, loaded = load_worker(tmp_path / "worker.yaml"), load_flows([tmp_path / "flow.yaml"], "source")

    [finding] = await probe_schemas(worker, loaded.flows)

    assert (finding.subject, finding.reason) == ("subject oci.f-value", reason)
    assert words in finding.message
    assert fake.subjects == {}


async def test_validate_finds_a_schema_registry_that_is_down_missing_or_of_another_mind(
    fake: FakeSchemaRegistry, tmp_path: Path
) -> None:
    files(tmp_path, fake.url, {"format": "avro"})
    worker, loaded = load_worker(tmp_path / "worker.yaml"), load_flows([tmp_path / "flow.yaml"], "source")
    fake.fail_next(503)
    [down] = await probe_schemas(worker, loaded.flows)
    fake.subjects, fake.schemas, fake.incompatible = {"oci.f-value": [1]}, ['"another"'], "OciFile"
    [other] = await probe_schemas(worker, loaded.flows)
    [missing] = await probe_schemas(worker.model_copy(update={"schema_registry": None}), loaded.flows)

    assert [found.reason for found in (down, other, missing)] == [
        "SchemaRegistryUnreachable",
        "SchemaRejected",
        "SchemaRejected",
    ]
    assert "schema_registry.url" in missing.message
