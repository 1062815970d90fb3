"""What `peek --snapshot` takes for the newest whole set, and how records look."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from ruamel.yaml import YAML

from connector.cli.output import OutputFormat
from connector.cli.peek import Newest, Printer, write_whole
from connector.kafka.record import Record
from connector.records.file_record import FileRecord, file_headers, file_key, pull_headers
from connector.records.formats.json import JsonFormat
from tests.sink.memory_store import ARTIFACT, TOPIC, pull

OTHER = "registry.example.com/org/other:prod"


def _record(file: FileRecord, offset: int) -> Record:
    encoded = JsonFormat().encode(file)
    headers = file_headers(file, pull_headers(file.pull)) + encoded.headers
    return Record(TOPIC, 0, file_key(file.pull.artifact, file.path), encoded.value, headers, offset=offset)


def test_pulls_of_two_artifacts_that_lie_between_one_another_are_both_shown_whole() -> None:
    ours, others = pull("1", {"a": "1", "b": "2", "c": "3"}), pull("2", {"x": "1"}, artifact=OTHER)
    newest = Newest(1_000_000)

    for offset, file in enumerate([*ours[:2], *others, *ours[2:]]):
        newest.take(_record(file, offset))

    shown = {artifact: [record.offset for record in records] for artifact, records in newest.whole.items()}
    assert shown == {ARTIFACT: [0, 1, 3], OTHER: [2]}
    assert newest.unfinished() == []


def test_a_newer_pull_takes_the_place_of_the_older_and_half_a_pull_takes_none() -> None:
    newest = Newest(1_000_000)
    files = [*pull("1", {"a": "1"}), *pull("2", {"a": "2", "b": "2"}), *pull("3", {"a": "3", "b": "3"})[:1]]

    for offset, file in enumerate(files):
        newest.take(_record(file, offset))

    assert [record.offset for record in newest.whole[ARTIFACT]] == [1, 2]
    assert newest.unfinished() == [f"{ARTIFACT}: pull 3 has 1 of 2 files and is not whole; not shown"]


def shown(records: list[Record], output: OutputFormat, capsys: pytest.CaptureFixture[str]) -> str:
    Printer(output, content=True).print(records)
    return capsys.readouterr().out


@pytest.mark.parametrize("output", OutputFormat)
@pytest.mark.parametrize("name", ["oci.pull_id", "oci.change", "oci.files", "oci.deletes", "oci.artifact_digest"])
def test_no_header_moves_the_cursor(name: str, output: OutputFormat, capsys: pytest.CaptureFixture[str]) -> None:
    record = _record(pull("1", {"a": "1"})[0], 0)
    headers = {**dict(record.headers), name: b"\x1b[2J\xc2\x9b2J\nforged"}

    text = shown([replace(record, headers=tuple(headers.items()))], output, capsys)

    assert "forged" in text
    assert text.replace("\n", "").isprintable()
    assert not any(line.startswith("forged") for line in text.splitlines())


def test_json_is_an_object_a_line_and_yaml_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    records = [_record(file, offset) for offset, file in enumerate(pull("1", {"a": "1", "b": "é\n"}))]

    lines = [json.loads(line) for line in shown(records, OutputFormat.JSON, capsys).splitlines()]
    listed = YAML(typ="safe", pure=True).load(shown(records, OutputFormat.YAML, capsys))

    assert [(one["path"], one["offset"], one["content"]) for one in lines] == [("a", 0, "1"), ("b", 1, "é\n")]
    assert listed == lines


def test_a_file_that_was_sent_by_reference_is_left_out_and_said_and_the_others_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = pull("1", {"a": "1", "large\x1b.bin": ""})
    newest = Newest(1_000_000)
    for offset, file in enumerate([small, replace(large, reference_bytes=50_000_000)]):
        newest.take(_record(file, offset))

    whole = write_whole(tmp_path, ARTIFACT, newest.whole[ARTIFACT])

    told = capsys.readouterr().err
    assert not whole
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert f"{ARTIFACT}: 1 files written to {tmp_path}\n" in told
    assert f"{ARTIFACT}: 1 files left out, for they were sent by reference" in told
    assert "large\\x1b.bin" in told


def test_a_set_whose_content_is_all_in_the_topic_is_written_whole(tmp_path: Path) -> None:
    records = [_record(file, offset) for offset, file in enumerate(pull("1", {"a": "1", "b/empty": ""}))]

    assert write_whole(tmp_path, ARTIFACT, records)
    assert (tmp_path / "b" / "empty").read_bytes() == b""
