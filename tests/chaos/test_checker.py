"""The judge is judged: each way to break a promise is planted into a good history, and must be found."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.checker import Violation, check, longest_stall
from tests.chaos.evidence import Entry, Evidence, Release

ONE = Release("sha256:1", {"a": "1", "b": "1"}, 10.0)
TWO = Release("sha256:2", {"a": "2", "c": "2"}, 20.0)
THREE = Release("sha256:3", {"a": "2"}, 30.0)


def history(*releases: Release, pushed: tuple[Release, ...] | None = None) -> Evidence:
    """What a connector without fault leaves behind."""
    records: list[Entry] = []
    offsets: list[Entry] = []
    reported: list[tuple[str, str]] = []
    before: dict[str, str] = {}
    previous: str | None = None
    for number, release in enumerate(releases):
        pull_id = f"pull-{number}"
        gone = sorted(before.keys() - release.files.keys())
        headers = {
            "oci.pull_id": pull_id, "oci.artifact_digest": release.digest,
            "oci.files": str(len(release.files)), "oci.deletes": str(len(gone)),
        } | ({"oci.previous_digest": previous} if previous else {})  # fmt: skip
        for position, path in enumerate([*release.files, *gone]):
            text = release.files.get(path)
            value = None
            if text is not None:
                value = json.dumps({"content": text, "artifact_digest": release.digest}).encode()
            change = "removed" if text is None else "added" if path not in before else ""
            change = change or ("unchanged" if before[path] == text else "modified")
            own = headers | {"oci.position": str(position), "oci.change": change}
            at = release.pushed_at + 1
            records.append(Entry(0, len(records) + number, f"x#{path}", value, own, at))
        offset = {"pull_id": pull_id, "digest": release.digest, "files": len(release.files), "deletes": len(gone),
                  "paths": dict.fromkeys(release.files, "hash")}  # fmt: skip
        offsets.append(Entry(3, 2 * number, "flow", json.dumps(offset).encode(), {}))
        reported.append((pull_id, release.digest))
        before, previous = dict(release.files), release.digest
    return Evidence(
        pushed or releases, tuple(records), tuple(offsets), tuple(records), tuple(reported), {"x-0": (12, 12)}
    )


GOOD = history(ONE, TWO, THREE)


def doubled_release(good: Evidence) -> Evidence:
    return history(ONE, TWO, TWO, THREE, pushed=good.releases)


def torn_release(good: Evidence) -> Evidence:
    records = list(good.records)
    records[1], records[2] = records[2], records[1]
    return replace(good, records=tuple(records), watched=tuple(records))


def missing_record(good: Evidence) -> Evidence:
    return replace(good, records=good.records[:3] + good.records[4:], watched=None)


def last_record_missing(good: Evidence) -> Evidence:
    return replace(good, records=good.records[:-1], watched=None)


def out_of_order(good: Evidence) -> Evidence:
    return history(TWO, ONE, THREE, pushed=good.releases)


def an_older_release_at_the_end(good: Evidence) -> Evidence:
    return history(ONE, TWO, THREE, ONE, pushed=good.releases)


def wrong_tombstone(good: Evidence) -> Evidence:
    return replace(good, records=tuple(replace(e, key="x#a") if e.value is None else e for e in good.records))


def tombstone_left_out(good: Evidence) -> Evidence:
    kept = [replace(e, headers=dict(e.headers) | {"oci.deletes": "0"}) for e in good.records if e.value is not None]
    return replace(good, records=tuple(kept), watched=None)


def offset_ahead_of_records(good: Evidence) -> Evidence:
    ids = {"pull-2"}
    return replace(good, records=tuple(e for e in good.records if e.pull_id not in ids), watched=None, reported=())


def aborted_record_visible(good: Evidence) -> Evidence:
    return replace(good, offsets=good.offsets[:1] + good.offsets[2:], reported=())


def aborted_record_visible_for_a_while(good: Evidence) -> Evidence:
    ghost = Entry(0, 99, "x#ghost", b"{}", {"oci.pull_id": "ghost"})
    return replace(good, watched=(*good.records[:2], ghost, *good.records[2:]))


def reported_but_lost(good: Evidence) -> Evidence:
    return replace(history(ONE, THREE, pushed=good.releases), reported=(("pull-9", TWO.digest),))


def content_of_another_release(good: Evidence) -> Evidence:
    value = json.dumps({"content": "other", "artifact_digest": ONE.digest}).encode()
    return replace(good, records=(replace(good.records[0], value=value), *good.records[1:]), watched=None)


def wrong_change(good: Evidence) -> Evidence:
    headers = dict(good.records[0].headers) | {"oci.change": "modified"}
    return replace(good, records=(replace(good.records[0], headers=headers), *good.records[1:]), watched=None)


def wrong_predecessor(good: Evidence) -> Evidence:
    return replace(
        good,
        records=tuple(replace(e, headers=dict(e.headers) | {"oci.previous_digest": "sha256:9"}) for e in good.records),
    )


def offset_of_other_paths(good: Evidence) -> Evidence:
    document = json.loads(good.offsets[-1].value or b"") | {"paths": {"z": "hash"}}
    changed = replace(good.offsets[-1], value=json.dumps(document).encode())
    return replace(good, offsets=(*good.offsets[:-1], changed))


def offsets_out_of_order(good: Evidence) -> Evidence:
    return replace(good, offsets=(good.offsets[1], good.offsets[0], good.offsets[2]))


def transaction_left_open(good: Evidence) -> Evidence:
    return replace(good, ends={"x-0": (8, 12)})


def idle_tick_that_writes(good: Evidence) -> Evidence:
    return replace(good, written_while_idle=2)


def newest_release_missing(good: Evidence) -> Evidence:
    return history(ONE, TWO, pushed=good.releases)


def a_digest_nobody_pushed(good: Evidence) -> Evidence:
    return history(ONE, TWO, THREE, pushed=(ONE, THREE))


def test_a_run_without_fault_has_no_violation() -> None:
    assert check(GOOD) == ()


def test_releases_that_were_overtaken_before_a_tick_saw_them_are_no_loss() -> None:
    assert check(history(ONE, THREE, pushed=(ONE, TWO, THREE))) == ()


def test_a_tag_that_is_rolled_back_is_no_older_release() -> None:
    assert check(history(ONE, TWO, ONE)) == ()


@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        (doubled_release, "I1"),
        (reported_but_lost, "I1"),
        (missing_record, "I2"),
        (last_record_missing, "I2"),
        (torn_release, "I3"),
        (aborted_record_visible, "I3"),
        (aborted_record_visible_for_a_while, "I3"),
        (offset_ahead_of_records, "I4"),
        (offset_of_other_paths, "I4"),
        (offsets_out_of_order, "I4"),
        (wrong_tombstone, "I5"),
        (tombstone_left_out, "I5"),
        (content_of_another_release, "I5"),
        (wrong_change, "I5"),
        (wrong_predecessor, "I5"),
        (a_digest_nobody_pushed, "I5"),
        (out_of_order, "I6"),
        (an_older_release_at_the_end, "I6"),
        (transaction_left_open, "I7"),
        (idle_tick_that_writes, "I8"),
        (newest_release_missing, "I9"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_planted_violation_is_found(plant: Callable[[Evidence], Evidence], promise: str) -> None:
    found = check(plant(GOOD))

    assert promise in {violation.promise for violation in found}, found


def test_a_compacted_offsets_topic_is_judged_by_its_newest_offset() -> None:
    assert check(replace(GOOD, offsets=GOOD.offsets[-1:], compacted=True)) == ()
    assert check(replace(GOOD, offsets=GOOD.offsets[:1], compacted=True))


def test_the_longest_stall_counts_until_a_release_or_a_later_one_is_whole() -> None:
    assert longest_stall(GOOD.releases, GOOD.records) == 1.0
    overtaken = history(ONE, THREE, pushed=(ONE, TWO, THREE))
    assert longest_stall(overtaken.releases, overtaken.records) == 11.0
    assert longest_stall(GOOD.releases, GOOD.records[:-1]) == float("inf")
    again = replace(ONE, pushed_at=40.0)
    assert longest_stall((ONE, TWO, again), history(ONE, TWO, again).records) == 1.0


def test_violations_are_told_in_order() -> None:
    assert sorted([Violation("I4", "b"), Violation("I1", "a")])[0].promise == "I1"
