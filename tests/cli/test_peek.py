"""What `peek --snapshot` takes for the newest whole set."""

from connector.cli.peek import Newest
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
