"""Every format with every key: what goes in comes out, and the bytes are those that were promised."""

import base64
import contextlib
import json
from io import BytesIO

import pytest
from fastavro import parse_schema, schemaless_reader
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import OutputError
from connector.kafka.record import Record
from connector.records.commit_record import CommitFacts, end_mark
from connector.records.encoder import FormatName, build_format
from connector.records.file_key import KeyFormat
from connector.records.reading import format_of, read_file
from connector.records.schemas import schema_text
from tests.records.samples import FORMATS, KEY_FORMATS, PULL, as_record, encoder, file

PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80)
CONTENTS = st.one_of(st.none(), st.binary(max_size=300), st.text(max_size=200).map(str.encode))
FOUR = (
    '{"path":"flows/a.yaml","content":"grüße: 1\\n","digest":"sha256:' + "b" * 64 + '",'
    '"artifact_digest":"sha256:' + "a" * 64 + '"}'
)


@given(
    content=CONTENTS,
    path=PATHS,
    name=st.sampled_from(FORMATS),
    key_format=st.sampled_from(KEY_FORMATS),
    cloud=st.booleans(),
)
def test_every_file_comes_back_from_every_format_and_key(
    content: bytes | None, path: str, name: FormatName, key_format: KeyFormat, cloud: bool
) -> None:
    sent = file(content, path)

    record = as_record(encoder(name, key_format, "cloudevents" if cloud else "oci"), sent)

    assert build_format(name).decode(record) == sent
    assert read_file(record) == sent
    assert content is None or format_of(record) == name


@given(content=st.binary(max_size=400), size=st.integers(0, 400))
def test_a_reader_that_was_not_told_the_format_is_not_fooled_by_a_file_that_looks_like_one(
    content: bytes, size: int
) -> None:
    lookalikes = [content, as_record(encoder("json"), file(content)).value, as_record(encoder("avro"), file(b"")).value]
    for inner in lookalikes:
        assert inner is not None
        for name in FORMATS:
            sent = file(inner)

            assert read_file(as_record(encoder(name), sent)) == sent


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_too_large_for_kafka_comes_back_as_a_reference_with_its_size(name: FormatName) -> None:
    sent = file(b"", reference_bytes=5_000_000)

    record = as_record(encoder(name), sent)

    assert (record.header("oci.size"), record.header("oci.oversize")) == ("5000000", "reference")
    assert read_file(record) == build_format(name).decode(record) == sent
    as_long = file(b"", reference_bytes=len(record.value or b""))
    assert read_file(as_record(encoder(name), as_long)) == as_long


@pytest.mark.parametrize("name", FORMATS)
def test_a_commit_record_comes_back_as_a_file_without_path(name: FormatName) -> None:
    mark = end_mark(PULL, CommitFacts(1, 10, {"flows/a.yaml": "sha256:" + "b" * 64}), 1)

    record = as_record(encoder(name), mark)
    read = build_format(name).decode(record)

    assert record.key == b"registry.example.com/org/flows:prod#"
    assert (record.header("oci.kind"), record.header("oci.change")) == ("commit", None)
    assert read.is_end_mark
    assert (read.pull, read.position, read.content) == (PULL, 1, mark.content)
    assert read_file(record) == read


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_file_is_not_a_tombstone(name: FormatName) -> None:
    assert as_record(encoder(name), file(b"")).value is not None
    assert as_record(encoder(name), file(None)).value is None


def test_the_value_of_json_schema_is_the_envelope_of_connects_converter() -> None:
    value = as_record(encoder("json_schema"), file("grüße: 1\n".encode())).value

    assert (
        value
        == (
            '{"schema":{"type":"struct","fields":['
            '{"type":"string","optional":false,"field":"path"},{"type":"string","optional":false,"field":"content"},'
            '{"type":"string","optional":false,"field":"digest"},'
            '{"type":"string","optional":false,"field":"artifact_digest"}'
            '],"optional":false,"name":"io.ocisync.v1.OciFile"},"payload":' + FOUR + "}"
        ).encode()
    )


def test_the_value_of_avro_is_a_zero_byte_the_id_and_a_body_that_plain_avro_reads() -> None:
    value = as_record(encoder("avro"), file("grüße: 1\n".encode())).value or b""

    assert value[:5] == b"\x00\x00\x00\x00\x07"
    assert value[5:] == (
        b"\x18flows/a.yaml" + b"\x16" + "grüße: 1\n".encode()
        + b"\x8e\x01sha256:" + b"b" * 64 + b"\x8e\x01sha256:" + b"a" * 64
    )  # fmt: skip
    schema = parse_schema(json.loads(schema_text("oci-file-value")))
    assert schemaless_reader(BytesIO(value[5:]), schema, None) == json.loads(FOUR)


@pytest.mark.parametrize("name", ["json", "json_schema", "avro"])
def test_what_is_not_utf8_stands_as_base64_and_says_so(name: FormatName) -> None:
    record = as_record(encoder(name), file(b"\xff\x00\x01"))

    assert record.header("oci.content_encoding") == "base64"
    assert base64.b64encode(b"\xff\x00\x01") in (record.value or b"")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("json", "application/json"), ("json_schema", "application/json"), ("avro", "application/avro"),
     ("raw", "application/yaml")],
)  # fmt: skip
def test_content_type_says_what_the_value_is(name: FormatName, content_type: str) -> None:
    assert as_record(encoder(name), file(b"x")).header("content-type") == content_type


HOSTILE = [
    b"",
    b"[]",
    b"{}",
    b"null",
    b"\xff",
    b"[" * 100_000,
    b'{"path":1}',
    b'{"schema":{}}',
    b'{"schema":{},"payload":[]}',
    FOUR.replace("grüße: 1\\n", "\\ud800").encode(),
    FOUR.replace("flows/a.yaml", "flows/b.yaml").encode(),
    b"\0\0\0\0\x07",
    b"\0\0\0\0\x07" + b"\xff" * 40,
    b"\0\0\0\0\x07" + b"\x00" * 3,
    b"\0\0\0\0\x07" + b"\x00" * 5,
    b"\0\0\0\0\x07\x01\x01\x01\x01",
    b"\0\0\0\0\x07\x02\xff\x00\x00\x00",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["json", "json_schema", "avro"])
def test_a_value_that_is_not_ours_is_an_error(name: FormatName, value: bytes) -> None:
    good = as_record(encoder(name), file(b"x"))

    with pytest.raises(OutputError) as caught:
        build_format(name).decode(Record("t", 0, good.key, value, good.headers))

    assert caught.value.reason == "RecordInvalid"


@given(value=st.binary(max_size=200), name=st.sampled_from(FORMATS))
def test_no_bytes_do_worse_than_an_error(value: bytes, name: FormatName) -> None:
    good = as_record(encoder(name), file(b"x"))
    for body in (value, b"\0\0\0\0\1" + value):
        record = Record("t", 0, good.key, body, good.headers)
        for decode in (build_format(name).decode, read_file):
            with contextlib.suppress(OutputError):
                decode(record)
