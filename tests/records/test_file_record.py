import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import OutputError
from connector.kafka.record import Record
from connector.records.file_record import (
    Change,
    FileRecord,
    PullFacts,
    file_headers,
    file_key,
    pull_headers,
    read_pull_facts,
    split_file_key,
)
from connector.records.formats import Format, json, raw

PULL = PullFacts(
    pull_id="019e0000-0000-7000-8000-000000000000",
    artifact="registry.example.com/org/flows:prod",
    artifact_digest="sha256:" + "a" * 64,
    manifest_digest=None,
    previous_digest=None,
    files=1,
    deletes=0,
)


def as_record(form: Format, file: FileRecord) -> Record:
    encoded = form.encode(file)
    headers = file_headers(file, pull_headers(file.pull)) + encoded.headers
    return Record("t", 0, file_key(file.pull.artifact, file.path), encoded.value, headers)


def file(content: bytes | None, path: str = "flows/a.yaml") -> FileRecord:
    change = Change.REMOVED if content is None else Change.ADDED
    digest = "" if content is None else "sha256:" + "b" * 64
    media_type = "" if content is None else "application/yaml"
    return FileRecord(PULL, 0, path, content, digest, media_type, change)


def test_the_json_value_holds_the_four_strings_in_their_order() -> None:
    record = as_record(json.build(), file("grüße: 1\n".encode()))

    assert record.key == b"registry.example.com/org/flows:prod#flows/a.yaml"
    assert (
        record.value
        == (
            '{"path":"flows/a.yaml","content":"grüße: 1\\n","digest":"sha256:' + "b" * 64 + '",'
            '"artifact_digest":"sha256:' + "a" * 64 + '"}'
        ).encode()
    )
    assert record.header("oci.content_encoding") is None
    assert record.header("content-type") == "application/json"


def test_what_is_not_utf8_stands_as_base64_and_says_so() -> None:
    record = as_record(json.build(), file(b"\xff\x00\x01"))

    assert record.header("oci.content_encoding") == "base64"
    assert b'"/wAB"' in (record.value or b"")


def test_a_tombstone_has_no_value_and_no_content_type() -> None:
    for form in (json.build(), raw.build()):
        record = as_record(form, file(None))

        assert record.value is None
        assert record.header("oci.change") == "removed"
        assert record.header("content-type") is None


def test_an_empty_file_is_not_a_tombstone() -> None:
    for form in (json.build(), raw.build()):
        record = as_record(form, file(b""))

        assert record.value is not None
        assert form.decode(record).content == b""


PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=80)


@given(content=st.one_of(st.none(), st.binary(max_size=300), st.text(max_size=200).map(str.encode)), path=PATHS)
def test_every_file_comes_back_from_every_format(content: bytes | None, path: str) -> None:
    for form in (json.build(), raw.build()):
        sent = file(content, path)

        assert form.decode(as_record(form, sent)) == sent


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_the_first_hash_sign_splits_a_key(path: str) -> None:
    assert split_file_key(file_key("reg/org/a:1", path)) == ("reg/org/a:1", path)


@pytest.mark.parametrize("key", [b"", b"no separator", b"\xff\xfe#a"])
def test_a_key_of_somebody_else_is_an_error(key: bytes) -> None:
    with pytest.raises(OutputError) as caught:
        split_file_key(key)

    assert caught.value.reason == "RecordInvalid"


@pytest.mark.parametrize("count", ["", "-1", "1.5", "x", "9" * 30, "٣"])
def test_a_count_that_is_no_count_is_an_error(count: str) -> None:
    headers = tuple((n, count.encode() if n == "oci.files" else v) for n, v in pull_headers(PULL))

    with pytest.raises(OutputError, match=r"oci\.files"):
        read_pull_facts(Record("t", 0, b"k", b"v", headers))


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"path":1}', b"\xff", b"[" * 100_000, b"null"])
def test_a_value_that_is_not_ours_is_an_error(value: bytes) -> None:
    good = as_record(json.build(), file(b"x"))

    with pytest.raises(OutputError) as caught:
        json.build().decode(Record("t", 0, good.key, value, good.headers))

    assert caught.value.reason == "RecordInvalid"
