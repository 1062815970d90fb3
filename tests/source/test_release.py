"""A pull as records: where they go, how they end, and what becomes of a file that is too large."""

import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.kafka.record import Record, partition_for, record_size_bytes
from connector.layers.extract import ExtractOptions, File
from connector.oci.reference import parse_reference
from connector.records.commit_record import set_digest
from connector.records.encoder import FormatName, HeaderStyle
from connector.records.file_key import KeyFormat
from connector.records.file_record import Change
from connector.records.reading import read_file
from connector.sink.tasks.buffer import Snapshots
from connector.source.changes import FileChange, compare
from connector.source.release import Release
from connector.source.source import Partitioner, Source
from tests.records.samples import FORMATS, KEY_FORMATS, PULL, encoder

SOURCE = Source(
    flow="f",
    name="pull",
    reference=parse_reference(PULL.artifact),
    platform=None,
    options=ExtractOptions(),
    topic="oci.f",
    topic_partitions=6,
    offsets_topic="offsets",
    offsets_partitions=4,
    offset_key=b"k",
    offset_partition=0,
    settings="s",
    force_pull=False,
    timeout=timedelta(minutes=1),
    worker="w",
)


@dataclass(frozen=True)
class Bytes:
    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read(self) -> bytes:
        return self.data


def a_file(path: str, data: bytes) -> File:
    return cast("File", FileOf(path, Bytes(data)))


@dataclass(frozen=True)
class FileOf:
    path: str
    content: Bytes
    content_hash: str = "0" * 64
    layer_digest: str = "sha256:" + "b" * 64
    media_type: str = "application/yaml"


def changes_of(files: dict[str, bytes], gone: Sequence[str] = ()) -> tuple[FileChange, ...]:
    return compare(dict.fromkeys(gone, "x"), [a_file(path, data) for path, data in files.items()])


def records_of(
    source: Source, changes: Sequence[FileChange], name: FormatName = "json", key_format: KeyFormat = "string"
) -> list[Record]:
    files = sum(1 for entry in changes if entry.file is not None)
    facts = replace(PULL, files=files, deletes=len(changes) - files)
    return list(Release(source, facts, changes, encoder(name, key_format), "tp", 0))


def test_a_source_lives_in_one_partition_by_default() -> None:
    records = records_of(SOURCE, changes_of({f"{n}.yaml": b"x" for n in range(20)}, ["gone"]))

    assert {record.partition for record in records} == {partition_for(PULL.artifact.encode(), 6)}


@pytest.mark.parametrize("key_format", KEY_FORMATS)
def test_the_partitioner_key_puts_each_record_where_kafkas_own_producer_would(key_format: KeyFormat) -> None:
    source = replace(SOURCE, partitioner="key", key_format=key_format)

    records = records_of(source, changes_of({f"{n}.yaml": b"x" for n in range(50)}, ["gone"]), key_format=key_format)

    assert [record.partition for record in records] == [partition_for(record.key, 6) for record in records]
    assert len({record.partition for record in records}) > 1
    assert [read_file(record).position for record in records] == list(range(51))


@pytest.mark.parametrize("key_format", KEY_FORMATS)
def test_a_source_knows_its_own_keys_from_all_others(key_format: KeyFormat) -> None:
    source = replace(SOURCE, key_format=key_format)
    own = encoder("json", key_format)

    assert source.path_of(own.key(PULL.artifact, "a#b.yaml")) == "a#b.yaml"
    assert source.path_of(own.key(PULL.artifact, "")) is None
    assert source.path_of(own.key(PULL.artifact + "2", "a")) is None
    assert source.path_of(b"\xff") is None
    for other in set(KEY_FORMATS) - {key_format}:
        assert source.path_of(encoder("json", other).key(PULL.artifact, "a")) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_commit_record_ends_the_pull_and_lists_its_files(name: FormatName) -> None:
    source = replace(SOURCE, commit_record=True)

    *others, last = records_of(source, changes_of({"a": b"xy", "b": b""}, ["gone"]), name)

    mark = read_file(last)
    assert mark.is_end_mark
    assert (mark.position, mark.pull) == (3, read_file(others[0]).pull)
    document = json.loads(mark.content or b"")
    assert (document["files"], document["deletes"], document["changed"], document["bytes"]) == (2, 1, 3, 2)
    assert set(document["manifest"]) == {"a", "b"}
    assert last.partition == others[0].partition


def test_a_pull_without_files_still_has_its_commit_record() -> None:
    records = records_of(replace(SOURCE, commit_record=True), changes_of({}, ["gone"]))

    assert [read_file(record).is_end_mark for record in records] == [False, True]


def test_with_the_partitioner_key_no_partition_keeps_an_older_commit_record() -> None:
    source = replace(SOURCE, commit_record=True, partitioner="key")

    records = records_of(source, changes_of({f"{n}.yaml": b"x" for n in range(20)}))

    marks = records[20:]
    assert [record.partition for record in marks] == list(range(6))
    for record in marks:
        here = {read_file(one).path: read_file(one).digest for one in records[:20] if one.partition == record.partition}
        document = json.loads(read_file(record).content or b"")
        assert (document["here"], document["set_digest"]) == (len(here), set_digest(here))


@given(
    sizes=st.lists(st.integers(0, 3000), max_size=8),
    limit=st.integers(600, 4000),
    name=st.sampled_from(FORMATS),
    fill=st.sampled_from([b"x", b"\x01", b"\xff", b'"']),
)
def test_what_is_beyond_the_limit_is_found_and_nothing_else(
    sizes: list[int], limit: int, name: FormatName, fill: bytes
) -> None:
    changes = changes_of({f"{number}": fill * size for number, size in enumerate(sizes)})
    facts = replace(PULL, files=len(sizes))
    release = Release(SOURCE, facts, changes, encoder(name), "tp", 0)

    large = release.beyond(limit)

    assert large == {read_file(record).path for record in release if record_size_bytes(record) > limit}


@given(
    sizes=st.lists(st.integers(0, 300_000), max_size=4),
    name=st.sampled_from(FORMATS),
    key_format=st.sampled_from(KEY_FORMATS),
    fill=st.sampled_from([b"x", b"\x01", b"\xff"]),
    headers=st.sampled_from(["oci", "cloudevents"]),
)
@settings(max_examples=60, deadline=None)
def test_the_sizes_are_those_of_the_records(
    sizes: list[int], name: FormatName, key_format: KeyFormat, fill: bytes, headers: HeaderStyle
) -> None:
    changes = changes_of({f"{number}": fill * size for number, size in enumerate(sizes)}, ["gone"])
    source = replace(SOURCE, commit_record=True)
    release = Release(source, PULL, changes, encoder(name, key_format, headers), "tp", 0)

    told = [(size.key, size.size_bytes) for size in release.sizes()]

    assert told == [(record.key, record_size_bytes(record)) for record in release]


def test_a_small_pull_is_read_once_for_its_sizes_and_its_records() -> None:
    reads: list[bytes] = []

    class Counted(Bytes):
        def read(self) -> bytes:
            reads.append(self.data)
            return self.data

    file = cast("File", FileOf("a", Counted(b"x" * 1000)))
    release = Release(SOURCE, PULL, [FileChange("a", Change.ADDED, file)], encoder("json"), "tp", 0)

    assert len(list(release.sizes())) == len(list(release)) == 1
    assert len(reads) == 1


def test_the_sizes_of_large_records_and_many_small_ones_take_none_of_the_room() -> None:
    small = {f"{number}": b"\x01" * 60_000 for number in range(60)}
    changes = changes_of({**small, "large": b"\x01" * 3_000_000})
    release = Release(SOURCE, PULL, changes, encoder("json"), "tp", 0)

    tracemalloc.start()
    try:
        total = sum(size.size_bytes for size in release.sizes())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert total > 39_000_000
    assert peak < 10_000_000


def test_a_large_limit_is_seen_to_suffice_without_reading_the_files() -> None:
    class Unread(Bytes):
        def read(self) -> bytes:
            raise AssertionError("read")

    file = cast("File", FileOf("a", Unread(b"x" * 1000)))
    release = Release(SOURCE, PULL, [FileChange("a", Change.ADDED, file)], encoder("json"), "tp", 0)

    assert release.beyond(1_000_000) == frozenset()


def test_a_file_by_reference_is_sent_without_its_content() -> None:
    changes = changes_of({"large": b"x" * 900, "small": b"y"})
    release = Release(SOURCE, replace(PULL, files=2), changes, encoder("json"), "tp", 0, {"large"})

    large, small = (read_file(record) for record in release)

    assert (large.content, large.reference_bytes) == (b"", 900)
    assert (small.content, small.reference_bytes) == (b"y", None)


@given(
    files=st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.binary(), max_size=6),
    gone=st.sets(st.sampled_from(["x", "y"])),
    name=st.sampled_from(FORMATS),
    key_format=st.sampled_from(KEY_FORMATS),
    partitioner=st.sampled_from(["source", "key"]),
)
def test_the_sink_half_sees_one_whole_snapshot_whatever_the_options(
    files: dict[str, bytes], gone: set[str], name: FormatName, key_format: KeyFormat, partitioner: Partitioner
) -> None:
    source = replace(SOURCE, commit_record=True, key_format=key_format, partitioner=partitioner)
    buffer = Snapshots()

    found = [
        snapshot
        for record in records_of(source, changes_of(files, sorted(gone - set(files))), name, key_format)
        if (snapshot := buffer.feed(read_file(record), record.topic, record.partition, 0)) is not None
    ]

    assert [{file.path: file.content for file in snapshot.files} for snapshot in found] == [files]
