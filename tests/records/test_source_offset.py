import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import OutputError
from connector.kafka.record import Record
from connector.records.request import RequestKind, read_request, request_key
from connector.records.source_offset import (
    SourceOffset,
    offset_key,
    offset_record,
    read_offset,
    settings_fingerprint,
    split_offset_key,
)

OFFSET = SourceOffset(
    artifact="reg.example.com/org/flows:prod",
    digest="sha256:" + "a" * 64,
    manifest_digest="sha256:" + "b" * 64,
    media_type="application/vnd.oci.image.manifest.v1+json",
    pull_id="019e0000-0000-7000-8000-000000000000",
    previous_digest=None,
    files=2,
    deletes=0,
    bytes=10,
    committed_at=1_795_555_555_000,
    worker="host-1",
    settings="0123456789abcdef",
    paths={"a.yaml": "1" * 24, "ü/b.yaml": "2" * 24},
)


def test_an_offset_comes_back_from_its_record() -> None:
    record = offset_record("oci-sync-offsets", 50, "flow1", OFFSET)

    assert record.key == b"flow.flow1.oci_digest.reg.example.com/org/flows:prod"
    assert record.value is not None
    assert read_offset(record.key, record.value) == OFFSET


def test_the_record_is_readable_json_with_the_promised_fields() -> None:
    document = json.loads(offset_record("t", 50, "f", OFFSET).value or b"")

    assert list(document) == [
        "version", "artifact", "digest", "manifest_digest", "media_type", "pull_id", "previous_digest", "files",
        "deletes", "bytes", "committed_at", "worker", "settings", "paths",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [b"", b"null", b"[]", b"{}", b'{"version":2}', b'{"version":1}', b"[" * 100_000, b'{"version":1,"artifact":5}'],
)
def test_an_offset_that_cannot_be_read_says_how_to_go_on(value: bytes) -> None:
    with pytest.raises(OutputError, match="offsets reset") as caught:
        read_offset(b"flow.f.oci_digest.a", value)

    assert caught.value.reason == "OffsetInvalid"


def test_the_offsets_keys_are_told_from_other_records_of_the_topic() -> None:
    assert split_offset_key(offset_key("my.flow", "reg/a:1")) == ("my.flow", "reg/a:1")
    assert split_offset_key(b"worker.host-1") is None
    assert split_offset_key(b"flow.broken") is None


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.text(), st.booleans(), st.none()), max_size=6))
def test_the_fingerprint_does_not_depend_on_the_order_of_the_settings(settings: dict[str, object]) -> None:
    turned = dict(reversed(list(settings.items())))

    assert settings_fingerprint(settings) == settings_fingerprint(turned)


@pytest.mark.parametrize("committed_at", [1_795_555_555_000_000_000, -1])
def test_a_time_in_other_units_is_no_offset(committed_at: int) -> None:
    document = json.loads(offset_record("t", 50, "f", OFFSET).value or b"") | {"committed_at": committed_at}

    with pytest.raises(OutputError, match="no time in milliseconds"):
        read_offset(b"flow.f.oci_digest.a", json.dumps(document).encode())


@pytest.mark.parametrize("at", [b"1e400", b"-1", b"1795555555000000000", b'"x"'])
def test_a_request_with_an_absurd_time_is_an_error_of_its_own(at: bytes) -> None:
    key = request_key(RequestKind.SET, "f", "r.example/a:prod")

    with pytest.raises(OutputError) as caught:
        read_request(Record("t", 0, key, b'{"id":"1","by":"x","at":' + at + b"}"))

    assert caught.value.reason == "RecordInvalid"
