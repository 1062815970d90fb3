"""The schema registry's client: one question per schema, refusals told from outages, and no secret in any word."""

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector.errors import CredentialsError, OutputError
from connector.kafka.schema_registry import RegistrySettings, SchemaRegistry
from connector.records.encoder import Encoding, build_format, subjects
from tests.fakes.schema_registry import FakeSchemaRegistry
from tests.records.samples import TIME_MS, file

SCHEMA = '{"type":"string"}'


@pytest.fixture
def fake() -> Iterator[FakeSchemaRegistry]:
    with FakeSchemaRegistry() as server:
        yield server


def client(fake: FakeSchemaRegistry, **settings: object) -> SchemaRegistry:
    return SchemaRegistry(RegistrySettings(fake.url + "/", **settings))  # type: ignore[arg-type] # by name


async def test_an_id_is_asked_for_once(fake: FakeSchemaRegistry) -> None:
    registry = client(fake)

    ids = [await registry.schema_id("t-value", SCHEMA) for _ in range(3)]

    assert ids == [1, 1, 1]
    assert [(asked.method, asked.path) for asked in fake.requests] == [("POST", "/subjects/t-value/versions")]
    assert fake.requests[0].headers["content-type"] == "application/vnd.schemaregistry.v1+json"


async def test_a_failed_question_is_asked_again(fake: FakeSchemaRegistry) -> None:
    registry = client(fake)
    fake.fail_next(503)

    with pytest.raises(OutputError):
        await registry.schema_id("t-value", SCHEMA)

    assert await registry.schema_id("t-value", SCHEMA) == 1


async def test_without_auto_register_nothing_is_written(fake: FakeSchemaRegistry) -> None:
    registry = client(fake, auto_register=False)

    with pytest.raises(OutputError, match="schemas register") as caught:
        await registry.schema_id("t-value", SCHEMA)
    assert caught.value.reason == "SchemaRejected"
    assert fake.subjects == {}

    await client(fake).register("t-value", SCHEMA)
    assert await registry.schema_id("t-value", SCHEMA) == 1


async def test_a_subject_is_one_segment_of_the_path_whatever_its_name(fake: FakeSchemaRegistry) -> None:
    await client(fake).register("a/../b?c#d", SCHEMA)

    assert fake.requests[0].path == "/subjects/a%2F..%2Fb%3Fc%23d/versions"
    assert list(fake.subjects) == ["a/../b?c#d"]


async def test_what_a_registry_holds_can_be_read(fake: FakeSchemaRegistry) -> None:
    registry = client(fake)
    assert await registry.latest("t-value") is None
    assert await registry.look_up("t-value", SCHEMA) is None
    assert await registry.schema(1) is None
    assert await registry.is_compatible("t-value", SCHEMA)

    await registry.register("t-value", SCHEMA)
    await registry.set_compatibility("t-value", "BACKWARD_TRANSITIVE")

    found = await registry.latest("t-value")
    assert found is not None
    assert (found.version, found.id, found.schema) == (1, 1, SCHEMA)
    assert await registry.look_up("t-value", SCHEMA) == 1
    assert await registry.schema(1) == SCHEMA
    assert not await registry.is_compatible("t-value", '"incompatible"')
    assert await registry.compatibility("t-value") == "BACKWARD_TRANSITIVE"
    assert await registry.compatibility("other") == "BACKWARD"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_an_outage_is_transient_and_its_time_is_kept(fake: FakeSchemaRegistry, status: int) -> None:
    fake.fail_next(status, {"Retry-After": "7"}, b"<html>gateway</html>")

    with pytest.raises(OutputError, match=f"HTTP {status}") as caught:
        await client(fake).register("t-value", SCHEMA)

    error = caught.value
    assert (error.reason, error.transient, error.retry_after) == ("SchemaRegistryUnreachable", True, 7)


async def test_nobody_listening_is_an_outage() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        registry = SchemaRegistry(RegistrySettings(f"http://127.0.0.1:{taken.getsockname()[1]}"))

        with pytest.raises(OutputError) as caught:
            await registry.register("t-value", SCHEMA)

    assert (caught.value.reason, caught.value.transient) == ("SchemaRegistryUnreachable", True)


async def test_a_refusal_says_what_the_registry_said(fake: FakeSchemaRegistry) -> None:
    registry = client(fake)
    await registry.register("t-value", SCHEMA)

    with pytest.raises(OutputError, match="HTTP 409: Schema being registered is incompatible") as caught:
        await registry.register("t-value", '"incompatible"')

    assert (caught.value.reason, caught.value.transient) == ("SchemaRejected", False)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [(401, "NotAuthorized", "credentials_path"), (403, "NotAuthorized", "credentials_path"),
     (404, "SchemaRejected", "ccompat"), (302, "SchemaRejected", "schema_registry.url"),
     (422, "SchemaRejected", "schemas check")],
)  # fmt: skip
async def test_each_refusal_says_where_to_look(fake: FakeSchemaRegistry, status: int, reason: str, words: str) -> None:
    fake.fail_next(status, {"Location": "http://elsewhere.example/"})

    with pytest.raises(OutputError) as caught:
        await client(fake).register("t-value", SCHEMA)

    assert (caught.value.reason, caught.value.transient) == (reason, False)
    assert words in caught.value.remedy
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"id":"1"}', b'{"id":true}', b'{"id":-1}', b'{"id":2147483648}', b"[" * 9999],
)
async def test_an_answer_that_is_no_registrys_is_refused(fake: FakeSchemaRegistry, body: bytes) -> None:
    fake.fail_next(200, body=body)

    with pytest.raises(OutputError, match=r"no schema registry") as caught:
        await client(fake).register("t-value", SCHEMA)

    assert caught.value.reason == "SchemaRejected"


async def test_an_endless_answer_is_given_up(fake: FakeSchemaRegistry) -> None:
    fake.fail_next(200, body=b" " * (5 * 1024 * 1024))

    with pytest.raises(OutputError) as caught:
        await client(fake).register("t-value", SCHEMA)

    assert caught.value.reason == "SchemaRegistryUnreachable"


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ({"username": "ci", "password": "a:ü"}, "Basic " + base64.b64encode("ci:a:ü".encode()).decode()),
        ({"token": "abc.def"}, "Bearer abc.def"),
    ],
)
async def test_credentials_are_read_for_each_request_and_reach_no_message(
    fake: FakeSchemaRegistry, tmp_path: Path, content: dict[str, str], sent: str
) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(content))
    registry = client(fake, credentials_path=path)
    secrets = [value for name, value in content.items() if name != "username"] + [sent.partition(" ")[2]]
    for secret in secrets:
        fake.fail_next(403, body=json.dumps({"message": f"no: {secret}"}).encode())

        with pytest.raises(OutputError, match="with credentials") as caught:
            await registry.register("t-value", SCHEMA)

        assert not any(one in f"{caught.value!r} {registry!r}" for one in secrets)
    path.write_text(json.dumps({"token": "new"}))
    await registry.register("t-value", SCHEMA)

    assert [asked.headers["authorization"] for asked in fake.requests] == [sent, sent, "Bearer new"][
        -len(secrets) - 1 :
    ]


@pytest.mark.parametrize(
    "text",
    ["", "s3cret", '"s3cret"', "[]", '{"password":"s3cret"}', '{"username":"a:b","password":"s3cret"}', '{"token":""}',
     '{"token":"s3cret\\r\\nX: y"}', '{"token":"s3cret","username":"a","password":"b"}', "[" * 9999],
)  # fmt: skip
async def test_a_credentials_file_that_is_none_is_said_without_its_content(
    fake: FakeSchemaRegistry, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text)

    with pytest.raises(CredentialsError, match=r"credentials\.json") as caught:
        await client(fake, credentials_path=path).register("t-value", SCHEMA)

    assert "s3cret" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert fake.requests == []


def test_subjects_are_named_by_topic_or_by_record() -> None:
    assert subjects("oci.f", "oci-file-value", "avro", "topic") == [
        ("oci.f-key", "oci-file-key"),
        ("oci.f-value", "oci-file-value"),
    ]
    assert subjects("oci.f", "oci-file-value", "string", "record") == [("io.ocisync.v1.OciFile", "oci-file-value")]
    assert subjects("oci.f", None, "json", "topic") == []


async def test_an_encoder_comes_with_the_ids_of_the_registry(fake: FakeSchemaRegistry) -> None:
    await client(fake).register("somebody-else", SCHEMA)

    encoder = await Encoding("t", build_format("avro"), "avro", "oci", client(fake)).prepare()

    key = encoder.key("reg/a:1", "a.yaml")
    value = encoder.record(file(b"x"), key, "t", 0, (), TIME_MS).value or b""
    assert (key[:5], value[:5]) == (b"\0\0\0\0\2", b"\0\0\0\0\3")
    assert set(fake.subjects) == {"somebody-else", "t-key", "t-value"}


async def test_only_avro_asks_a_registry(fake: FakeSchemaRegistry) -> None:
    for name in ("json", "raw", "json_schema"):
        await Encoding("t", build_format(name), "json", "oci", client(fake)).prepare()

    assert fake.requests == []


@pytest.mark.parametrize(("form", "key_format"), [("avro", "string"), ("json", "avro")])
async def test_avro_without_a_registry_says_which_setting_is_missing(form: str, key_format: str) -> None:
    with pytest.raises(OutputError, match=r"schema_registry\.url") as caught:
        await Encoding("t", build_format(form), key_format, "oci").prepare()  # type: ignore[arg-type] # as parametrized

    assert caught.value.reason == "SchemaRejected"
