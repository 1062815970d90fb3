"""The snapshot assembler: whole snapshots or none, never a wrong one."""

import random
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import OutputError, SinkError
from connector.records.file_record import FileRecord, Snapshot
from connector.sink.parts import Parts
from connector.sink.tasks.buffer import TRANSITIONS, Event, Fields, Snapshots, State, build, step
from tests.sink.memory_store import TOPIC, pull

A, B = "example.com/a:1", "example.com/b:1"


def _feed(snapshots: Snapshots, files: Sequence[FileRecord], first: int = 0, partition: int = 0) -> list[Snapshot]:
    fed = [snapshots.feed(file, TOPIC, partition, first + number) for number, file in enumerate(files)]
    return [snapshot for snapshot in fed if snapshot is not None]


def _contents(snapshot: Snapshot) -> dict[str, str]:
    return {file.path: (file.content or b"").decode() for file in snapshot.files}


def test_a_pull_is_whole_at_its_last_file_and_not_before() -> None:
    snapshots = Snapshots()
    files = pull("1", {"a": "1", "b": "2", "c": "3"})

    assert _feed(snapshots, files[:2]) == []
    (snapshot,) = _feed(snapshots, files[2:], first=2)
    assert _contents(snapshot) == {"a": "1", "b": "2", "c": "3"}


def test_tombstones_are_not_waited_for() -> None:
    (snapshot,) = _feed(Snapshots(), pull("2", {"a": "1"}, removed=["b", "c"])[:1])

    assert _contents(snapshot) == {"a": "1"}


def test_a_release_without_files_is_whole_when_every_tombstone_was_seen() -> None:
    snapshots = Snapshots()
    files = pull("2", {}, removed=["a", "b"])

    assert _feed(snapshots, files[:1]) == []
    (snapshot,) = _feed(snapshots, files[1:], first=1)
    assert (snapshot.files, snapshot.removed) == ((), ("a", "b"))


def test_an_incomplete_pull_is_skipped_as_soon_as_a_newer_one_begins() -> None:
    snapshots = Snapshots()
    old, new = pull("1", {"a": "1", "b": "2"}), pull("2", {"a": "3", "b": "4"})

    assert [_contents(s) for s in _feed(snapshots, [old[0], new[0], old[1], new[1]])] == [{"a": "3", "b": "4"}]


def test_late_records_of_an_old_pull_do_not_bring_it_back() -> None:
    snapshots = Snapshots()
    old, new = pull("9-old", {"a": "1"}), pull("1-new", {"a": "2"})
    _feed(snapshots, [*old, *new])

    assert _feed(snapshots, old, first=2) == []


def test_duplicates_and_replays_give_a_snapshot_once() -> None:
    snapshots = Snapshots()
    files = pull("1", {"a": "1", "b": "2"})

    assert len(_feed(snapshots, [files[0], files[0], files[1], files[1], *files])) == 1
    assert _feed(snapshots, files) == []


def test_a_late_reader_of_a_compacted_log_gets_the_newest_pull_alone() -> None:
    old, new = pull("1", {"a": "1", "b": "2", "c": "3"}), pull("2", {"a": "4", "b": "5"}, removed=["c"])

    # What the cleaner leaves: of the old pull nothing but what lies in the dirty part; tombstones may be gone.
    got = _feed(Snapshots(), [old[2], new[0], new[1]])

    assert [_contents(snapshot) for snapshot in got] == [{"a": "4", "b": "5"}]


def test_artifacts_interleave_without_touching_one_another() -> None:
    a, b = pull("1", {"x": "1", "y": "2"}, artifact=A), pull("2", {"x": "3", "y": "4"}, artifact=B)

    got = _feed(Snapshots(), [a[0], b[0], b[1], a[1]])

    assert [snapshot.pull.artifact for snapshot in got] == [B, A]


def test_an_old_release_in_another_partition_does_not_follow_a_newer_one() -> None:
    snapshots = Snapshots()
    _feed(snapshots, pull("0195-2", {"a": "new"}), partition=2)

    assert _feed(snapshots, pull("0195-1", {"a": "old"}), partition=0) == []


def test_a_dropped_partition_is_read_anew() -> None:
    snapshots = Snapshots()
    files = pull("1", {"a": "1", "b": "2"})
    _feed(snapshots, files)
    snapshots.drop(TOPIC, 0)

    assert len(_feed(snapshots, files)) == 1


def test_what_is_under_way_names_the_offset_to_read_again_from() -> None:
    snapshots = Snapshots()
    _feed(snapshots, pull("1", {"a": "1", "b": "2"})[:1], first=17)

    (collecting,) = snapshots.collecting()
    assert (collecting.first_offset, collecting.seen, collecting.expected) == (17, 1, 2)


def test_too_many_files_is_an_error_that_names_both_numbers_once() -> None:
    snapshots = build(Fields(name="b", size=2), Parts("f"))
    files = pull("1", {"a": "1", "b": "2", "c": "3"})

    with pytest.raises(SinkError, match="it has 3 files, and size is 2") as caught:
        snapshots.feed(files[0], TOPIC, 0, 0)

    assert caught.value.reason == "SnapshotTooLarge"
    assert _feed(snapshots, files[1:], first=1) == []
    assert len(_feed(snapshots, pull("2", {"a": "1"}), first=3)) == 1


def test_too_many_bytes_is_an_error_that_names_both_numbers() -> None:
    snapshots = Snapshots(max_total_size=10)

    with pytest.raises(SinkError, match="2 of its 3 files have 12 bytes, and max_total_size is 10"):
        _feed(snapshots, pull("1", {"a": "x" * 6, "b": "y" * 6, "c": ""}))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pull("1", {"a": "1", "b": "2"})[0], pull("1", {"a": "other", "b": "2"})[0]),
        (pull("1", {"a": "1", "b": "2"})[0], pull("1", {"a": "1", "b": "2", "c": "3"})[1]),
        (pull("1", {"a": "1", "b": "2"})[0], pull("1", {"x": "1", "a": "2"})[1]),
    ],
    ids=["one position, two contents", "another count of files", "one path at two positions"],
)
def test_a_pull_in_contradiction_with_itself_is_never_whole(first: FileRecord, second: FileRecord) -> None:
    snapshots = Snapshots()
    snapshots.feed(first, TOPIC, 0, 0)

    with pytest.raises(OutputError) as caught:
        snapshots.feed(second, TOPIC, 0, 1)

    assert caught.value.reason == "RecordInvalid"
    assert _feed(snapshots, pull("1", {"a": "1", "b": "2"}), first=2) == []


def test_every_state_and_event_is_in_the_table_or_refused() -> None:
    for state, event in product(State, Event):
        if (state, event) not in TRANSITIONS:
            with pytest.raises(ValueError, match="cannot meet"):
                step(state, event)
    assert set(TRANSITIONS.values()) == {State.COLLECTING, State.COMPLETE, State.SUPERSEDED}


@st.composite
def _histories(draw: st.DrawFn) -> tuple[list[tuple[int, FileRecord]], dict[str, dict[str, str]]]:
    """A log of several pulls of two artifacts with offsets, and what each pull really is."""
    log: list[FileRecord] = []
    truth: dict[str, dict[str, str]] = {}
    chains = {A: draw(st.integers(0, 4)), B: draw(st.integers(0, 2))}
    streams = []
    for artifact, count in chains.items():
        stream: list[FileRecord] = []
        before: dict[str, str] = {}
        for number in range(count):
            pull_id = f"{artifact}-{number}"
            paths = draw(st.sets(st.sampled_from("abcd"), max_size=4))
            files = {path: f"{pull_id}/{path}" for path in sorted(paths)}
            removed = sorted(set(before) - paths)
            stream += pull(pull_id, files, removed, artifact=artifact)
            truth[pull_id] = before = files
        streams.append(stream)
    while any(streams):
        log.append(draw(st.sampled_from([stream for stream in streams if stream])).pop(0))
    return list(enumerate(log)), truth


@settings(max_examples=150, deadline=None)
@given(history=_histories(), seed=st.integers(0, 2**32))
def test_any_loss_compaction_duplication_and_restart_gives_whole_snapshots_or_none(
    history: tuple[list[tuple[int, FileRecord]], dict[str, dict[str, str]]], seed: int
) -> None:
    log, truth = history
    chance = random.Random(seed)
    kept = [entry for entry in log if chance.random() > 0.2]  # loss, which compaction is a case of
    delivered: list[tuple[int, FileRecord]] = []
    for entry in kept:
        delivered.append(entry)
        if chance.random() < 0.2:  # a consumer that goes back to an offset it had before
            start = chance.randrange(len(delivered))
            delivered += delivered[start:]
    snapshots = Snapshots()
    newest: dict[str, int] = {}
    for offset, file in delivered:
        if chance.random() < 0.05:
            snapshots, newest = Snapshots(), {}
        snapshot = snapshots.feed(file, TOPIC, 0, offset)
        if snapshot is not None:
            assert _contents(snapshot) == truth[snapshot.pull.pull_id]
            number = int(snapshot.pull.pull_id.rpartition("-")[2])
            assert number > newest.get(snapshot.pull.artifact, -1)
            newest[snapshot.pull.artifact] = number


@settings(max_examples=100, deadline=None)
@given(history=_histories())
def test_a_reader_of_the_compacted_log_ends_with_the_newest_pull_of_each_artifact(
    history: tuple[list[tuple[int, FileRecord]], dict[str, dict[str, str]]],
) -> None:
    log, truth = history
    last = {(file.pull.artifact, file.path): offset for offset, file in log}
    compacted = [(o, f) for o, f in log if last[f.pull.artifact, f.path] == o]
    snapshots = Snapshots()
    got: dict[str, Snapshot] = {}
    for offset, file in compacted:
        if (snapshot := snapshots.feed(file, TOPIC, 0, offset)) is not None:
            got[snapshot.pull.artifact] = snapshot

    for artifact in (A, B):
        pulls = [pull_id for pull_id in truth if pull_id.startswith(artifact)]
        if pulls and truth[pulls[-1]]:
            assert got[artifact].pull.pull_id == pulls[-1]
