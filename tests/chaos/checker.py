"""Did every promise hold? The invariants, judged from evidence alone; shares no code with the product. Pure.

| | promise |
|---|---|
| I1 | a pull that a worker reported is there, once; no release twice |
| I2 | a pull is whole: positions 0 to n-1, in order |
| I3 | nothing of an aborted pull is visible, at no time; no two pulls of a source interleave |
| I4 | the source offsets and the pulls are the same sequence: each offset speaks of the pull of its transaction |
| I5 | replaying the topic gives each release byte for byte, tombstones for exactly what it no longer has |
| I6 | no release follows a newer one |
| I7 | when all is quiet no transaction is open |
| I8 | an unchanged tick writes nothing |
| I9 | the newest release is there |
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.evidence import Entry, Evidence, Release


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """A promise that was broken, and how."""

    promise: str
    how: str


@dataclass(frozen=True, slots=True)
class Pull:
    """The records of one pull, in the order of the log."""

    pull_id: str
    entries: tuple[Entry, ...]

    @property
    def digest(self) -> str:
        """What the tag named."""
        return self.entries[0].headers.get("oci.artifact_digest", "")

    def says(self, header: str) -> int:
        """A counting header of the pull; -1 where it is none."""
        text = self.entries[0].headers.get(header, "")
        return int(text) if text.isdigit() else -1


def check(evidence: Evidence) -> tuple[Violation, ...]:
    """Every violation, ordered; empty when all promises held."""
    pulls = pulls_of(evidence.records)
    found = [
        *_reported_once(evidence, pulls),
        *_whole(pulls),
        *_nothing_aborted(evidence, pulls),
        *_offsets_follow(evidence, pulls),
        *_replay(evidence.releases, pulls),
        *_in_order(evidence.releases, pulls),
        *_no_open_transaction(evidence.ends),
    ]
    if evidence.written_while_idle:
        found.append(Violation("I8", f"unchanged ticks took {evidence.written_while_idle} offsets"))
    if evidence.releases and (not pulls or pulls[-1].digest != evidence.releases[-1].digest):
        have = _short(pulls[-1].digest) if pulls else "nothing"
        found.append(Violation("I9", f"the newest release {_short(evidence.releases[-1].digest)} is not there: {have}"))
    return tuple(sorted(found))


def pulls_of(records: Sequence[Entry]) -> tuple[Pull, ...]:
    """The records by pull, pulls in the order of their first records."""
    found: dict[str, list[Entry]] = {}
    for entry in records:
        found.setdefault(entry.pull_id, []).append(entry)
    return tuple(Pull(pull_id, tuple(entries)) for pull_id, entries in found.items())


def duplicates(pulls: Sequence[Pull]) -> int:
    """How many pulls brought the release that was there already."""
    return sum(before.digest == after.digest for before, after in pairwise(pulls))


def longest_stall(releases: Sequence[Release], watched: Sequence[Entry]) -> float:
    """Seconds from the push of a release until it, or one pushed after it, was seen whole; infinite if it never was."""
    seen: list[tuple[str, float]] = [
        (pull.digest, pull.entries[-1].seen_at)
        for pull in pulls_of(watched)
        if len(pull.entries) >= pull.says("oci.files") + pull.says("oci.deletes")
    ]
    longest, visible = 0.0, float("inf")
    for release in reversed(releases):
        # A release that was rolled back to was seen before, too.
        since = [at for digest, at in seen if digest == release.digest and at >= release.pushed_at]
        visible = min([visible, *since])
        longest = max(longest, visible - release.pushed_at)
    return longest


def _reported_once(evidence: Evidence, pulls: Sequence[Pull]) -> Iterator[Violation]:
    there = {pull.pull_id: pull.digest for pull in pulls}
    for pull_id, digest in evidence.reported:
        if there.get(pull_id) != digest:
            yield Violation("I1", f"pull {pull_id} of {_short(digest)} was reported committed and is not there")
    for before, after in pairwise(pulls):
        if before.digest == after.digest:
            yield Violation("I1", f"{_short(after.digest)} came twice: pulls {before.pull_id} and {after.pull_id}")
    pushed = Counter(release.digest for release in evidence.releases)
    for digest, count in Counter(pull.digest for pull in pulls).items():
        if count > max(1, pushed[digest]):
            yield Violation("I1", f"{_short(digest)} came {count} times and was pushed {pushed[digest]} times")


def _whole(pulls: Sequence[Pull]) -> Iterator[Violation]:
    for pull in pulls:
        positions = [entry.headers.get("oci.position") for entry in pull.entries]
        promised = pull.says("oci.files") + pull.says("oci.deletes")
        if positions != [str(number) for number in range(promised)]:
            yield Violation("I2", f"pull {pull.pull_id} promises {promised} records and has positions {positions}")
        if len({entry.partition for entry in pull.entries}) != 1:
            yield Violation("I2", f"pull {pull.pull_id} straddles partitions")


def _nothing_aborted(evidence: Evidence, pulls: Sequence[Pull]) -> Iterator[Violation]:
    ended: set[str] = set()
    for before, after in pairwise(evidence.records):
        if before.pull_id != after.pull_id:
            ended.add(before.pull_id)
            if after.pull_id in ended:
                yield Violation("I3", f"pull {after.pull_id} is torn by pull {before.pull_id} at offset {after.offset}")
    if not evidence.compacted:
        with_offset = {offset.get("pull_id") for offset in map(_document, evidence.offsets)}
        for pull in pulls:
            if pull.pull_id not in with_offset:
                yield Violation("I3", f"pull {pull.pull_id} is visible and its offset is not: it was aborted")
    if evidence.watched is not None:
        final = [(entry.partition, entry.offset, entry.key, entry.value) for entry in evidence.records]
        along = [(entry.partition, entry.offset, entry.key, entry.value) for entry in evidence.watched]
        for number, (saw, is_there) in enumerate(zip(along, final, strict=False)):
            if saw != is_there:
                yield Violation(
                    "I3", f"record {number} was {saw[1:3]} for a reader during the run and is {is_there[1:3]}"
                )
                break
        if len(along) > len(final):
            yield Violation("I3", f"a reader during the run saw {len(along) - len(final)} records that are not there")


def _offsets_follow(evidence: Evidence, pulls: Sequence[Pull]) -> Iterator[Violation]:
    told = [_document(entry) for entry in evidence.offsets if entry.value is not None]
    expected = list(pulls[-1:] if evidence.compacted else pulls)
    if evidence.compacted:
        told = told[-1:]
    if [one.get("pull_id") for one in told] != [pull.pull_id for pull in expected]:
        yield Violation("I4", f"the offsets speak of {len(told)} pulls and the topic holds {len(expected)}, or others")
    there = {pull.pull_id: pull for pull in pulls}
    for offset in told:
        pull = there.get(str(offset.get("pull_id")))
        if pull is None:
            yield Violation("I4", f"the offset of {_short(str(offset.get('digest')))} is ahead of its records")
            continue
        live = {entry.path for entry in pull.entries if entry.value is not None}
        facts = (offset.get("digest"), offset.get("files"), offset.get("deletes"), set(offset.get("paths", ())))
        if facts != (pull.digest, pull.says("oci.files"), pull.says("oci.deletes"), live):
            yield Violation("I4", f"the offset of pull {pull.pull_id} says other things than its records")


def _replay(releases: Sequence[Release], pulls: Sequence[Pull]) -> Iterator[Violation]:
    content = {release.digest: dict(release.files) for release in releases}
    table: dict[str, str] = {}
    previous: str | None = None
    for pull in pulls:
        wanted = content.get(pull.digest)
        if wanted is None:
            yield Violation("I5", f"pull {pull.pull_id} is of {_short(pull.digest)}, which nobody pushed")
            continue
        yield from _pull_against(pull, table, wanted, previous)
        for entry in pull.entries:
            if entry.value is None:
                table.pop(entry.path, None)
            else:
                table[entry.path] = str(_document(entry).get("content"))
        if table != wanted:
            wrong = sorted(path for path in table.keys() | wanted.keys() if table.get(path) != wanted.get(path))
            yield Violation("I5", f"after pull {pull.pull_id} the table is not {_short(pull.digest)}: {wrong}")
        table, previous = dict(wanted), pull.digest


def _pull_against(
    pull: Pull, before: Mapping[str, str], wanted: Mapping[str, str], previous: str | None
) -> Iterator[Violation]:
    tombstones = [entry.path for entry in pull.entries if entry.value is None]
    gone = sorted(before.keys() - wanted.keys())
    if sorted(tombstones) != gone:
        yield Violation("I5", f"pull {pull.pull_id} has tombstones for {tombstones}, gone are {gone}")
    if any(entry.value is not None for entry in pull.entries[len(pull.entries) - len(tombstones) :]):
        yield Violation("I5", f"pull {pull.pull_id} has a file after a tombstone")
    if pull.entries[0].headers.get("oci.previous_digest") != previous:
        yield Violation("I5", f"pull {pull.pull_id} names another predecessor than {_short(previous or 'none')}")
    for entry in pull.entries:
        path = entry.path
        change = "removed" if entry.value is None else "added" if path not in before else ""
        change = change or ("unchanged" if before[path] == wanted.get(path) else "modified")
        if entry.headers.get("oci.change") != change:
            yield Violation("I5", f"pull {pull.pull_id} calls {path} {entry.headers.get('oci.change')}; it is {change}")
        if entry.value is not None and _document(entry).get("artifact_digest") != pull.digest:
            yield Violation("I5", f"pull {pull.pull_id} holds a record of another digest")


def _in_order(releases: Sequence[Release], pulls: Sequence[Pull]) -> Iterator[Violation]:
    rest = iter([release.digest for release in releases])
    for pull in pulls:
        if pull.digest not in rest:  # consumes up to the one found: the pulls must be a subsequence of the pushes
            yield Violation("I6", f"{_short(pull.digest)} of pull {pull.pull_id} follows a release pushed after it")
            return


def _no_open_transaction(ends: Mapping[str, tuple[int, int]]) -> Iterator[Violation]:
    for partition, (stable, high) in sorted(ends.items()):
        if stable != high:
            yield Violation("I7", f"{partition}: an open transaction holds readers at {stable} of {high}")


def _document(entry: Entry) -> dict[str, Any]:
    try:
        found = json.loads(entry.value or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _short(digest: str) -> str:
    return digest[:19]
