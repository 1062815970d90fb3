"""`headers: cloudevents`: each record is an event as the CloudEvents binding for Kafka wants it (binary mode)."""

from datetime import datetime

import pytest

from connector.records.commit_record import CommitFacts, end_mark
from connector.records.file_record import FileRecord
from tests.records.samples import FORMATS, PULL, as_record, encoder, file

MARK = end_mark(PULL, CommitFacts(0, 0, {}), 1)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "sent", [file(b"x"), file(None), file(b""), MARK], ids=["file", "tombstone", "empty", "commit"]
)
def test_every_record_is_an_event_in_binary_mode(name: str, sent: FileRecord) -> None:
    record = as_record(encoder(name, headers="cloudevents"), sent)  # type: ignore[arg-type] # of FORMATS

    attributes = {header: value.decode() for header, value in record.headers if header.startswith("ce_")}
    assert attributes["ce_specversion"] == "1.0"
    assert attributes["ce_source"] == "oci://registry.example.com/org/flows:prod"
    assert attributes["ce_id"] == f"{PULL.pull_id}-{sent.position}"
    assert attributes["ce_type"] == ("io.ocisync.commit.v1" if sent is MARK else "io.ocisync.file.v1")
    assert datetime.fromisoformat(attributes["ce_time"]).utcoffset() is not None
    assert all(attributes.values())
    assert all(header[3:].isascii() and header[3:].isalnum() and header.islower() for header in attributes)
    names = [header for header, _ in record.headers]
    assert len(names) == len(set(names))


def test_the_subject_is_the_path_and_the_time_ends_in_z() -> None:
    record = as_record(encoder("json", headers="cloudevents"), file(b"x", "ü/a b.yaml"))

    assert record.header("ce_subject") == "ü/a b.yaml"
    assert record.header("ce_time") == "2026-11-24T21:25:55.123Z"


def test_by_default_there_are_none() -> None:
    assert not [name for name, _ in as_record(encoder("json"), file(b"x")).headers if name.startswith("ce_")]
