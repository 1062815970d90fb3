"""`buffer`: whole snapshots out of the records of a topic; the class is also for readers of their own. Pure.

Rules (contract 1 of the design, "Complete"). (1) A pull is whole when `oci.files` distinct positions below `oci.files`
were seen; one without files, when all its tombstones were, or an end mark (a record whose path is empty). Tombstones
are not waited for otherwise, since compaction may have dropped them. (2) An artifact has one pull at a time: a record
of a newer pull supersedes the one before, whole or not, and what still comes of that is ignored. (3) In one partition
the order of the log says which pull is newer. Where an artifact has records in two (its topic got more partitions),
only the pull id can: it begins with the time (UUIDv7). (4) A pull that contradicts itself, or is too large, is refused
as a whole: an error once, then silence until a newer one. (5) Nothing is ever guessed from a time-out.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from msgspec import Struct, field
from pydantic import Field

from connector.config.task import Duration, TaskFields
from connector.errors import OutputError, SinkError
from connector.kafka.assignment import Place
from connector.records.file_record import FileRecord, PullFacts, Snapshot
from connector.sink.parts import Parts

# Pull ids that are over, remembered for each artifact. Needed only where two writers interleave (at_least_once after a
# time-out), so a handful would do; 36 bytes each.
_REMEMBERED = 256


class Fields(TaskFields):
    """Collects the records of one pull, and hands them on when the snapshot is whole, never before."""

    size: int = Field(10_000, ge=1, le=10_000_000, description="Most files of a snapshot; a larger one is an error.")
    timeout: Duration = Field(
        timedelta(seconds=5),
        gt=timedelta(0),
        description="A pull that is not whole after this long is warned of, in log and status. It is never flushed.",
    )


class State(StrEnum):
    """Where a pull stands."""

    NOTHING = "nothing"
    COLLECTING = "collecting"
    COMPLETE = "complete"
    SUPERSEDED = "superseded"


class Event(StrEnum):
    """What happens to a pull."""

    PART = "part"  # a position not seen before
    LAST = "last"  # the one that makes it whole
    REPEAT = "repeat"  # nothing new: a duplicate, a tombstone, an end mark
    NEWER = "newer"  # a record of a newer pull of the artifact
    REFUSED = "refused"  # too large, or in contradiction with itself


# State × event → state. What is not here cannot happen; `step` raises and changes nothing.
TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.NOTHING, Event.PART): State.COLLECTING,
    (State.NOTHING, Event.LAST): State.COMPLETE,
    (State.NOTHING, Event.REPEAT): State.COLLECTING,
    (State.NOTHING, Event.REFUSED): State.SUPERSEDED,
    (State.COLLECTING, Event.PART): State.COLLECTING,
    (State.COLLECTING, Event.LAST): State.COMPLETE,
    (State.COLLECTING, Event.REPEAT): State.COLLECTING,
    (State.COLLECTING, Event.NEWER): State.SUPERSEDED,
    (State.COLLECTING, Event.REFUSED): State.SUPERSEDED,
    (State.COMPLETE, Event.REPEAT): State.COMPLETE,
    (State.COMPLETE, Event.NEWER): State.SUPERSEDED,
    (State.SUPERSEDED, Event.REPEAT): State.SUPERSEDED,
    (State.SUPERSEDED, Event.NEWER): State.SUPERSEDED,
}


def step(state: State, event: Event) -> State:
    """The next state of a pull. Raises ValueError for an event that cannot happen in `state`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"a pull that is {state} cannot meet {event}") from None


class Collecting(Struct, frozen=True):
    """A pull that is under way. `first_offset` is the lowest offset seen of it in `place`."""

    artifact: str
    pull_id: str
    place: Place
    first_offset: int
    seen: int
    expected: int


class _Pull(Struct):
    """The newest pull of one artifact. Its parts are let go as soon as it is no longer collecting."""

    facts: PullFacts
    state: State = State.NOTHING
    files: dict[int, FileRecord] = field(default_factory=dict)
    removed: dict[int, str] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    size_bytes: int = 0
    first: dict[Place, int] = field(default_factory=dict)

    @property
    def expected(self) -> int:
        return self.facts.files or self.facts.deletes

    @property
    def seen(self) -> int:
        return len(self.files) if self.facts.files else len(self.removed)

    def let_go(self) -> None:
        self.files, self.removed, self.paths = {}, {}, set()


class Snapshots:
    """Takes records in any number of interleaved artifacts; gives each snapshot once, when it is whole."""

    def __init__(
        self, max_files: int = 10_000, max_total_size: int = 100_000_000, timeout: timedelta = timedelta(seconds=5)
    ) -> None:
        self._max_files = max_files
        self._max_total_size = max_total_size
        self.timeout = timeout
        self._pulls: dict[str, _Pull] = {}
        self._over: dict[str, dict[str, None]] = {}  # artifact → ids of pulls that are over, oldest first

    def __repr__(self) -> str:
        pulls = ", ".join(f"{artifact} {pull.state}" for artifact, pull in self._pulls.items())
        return f"<Snapshots {pulls or 'nothing'}>"

    def feed(self, file: FileRecord, topic: str, partition: int, offset: int) -> Snapshot | None:
        """The snapshot that this record makes whole, else None.

        Raises SinkError SnapshotTooLarge and OutputError RecordInvalid, once for a pull; that pull is then skipped.
        """
        place = (topic, partition)
        pull = self._pull_of(file, place, offset)
        if pull is None:
            return None
        pull.first[place] = min(offset, pull.first.get(place, offset))
        if pull.state in (State.COMPLETE, State.SUPERSEDED):
            return None
        try:
            event = self._judge(pull, file, f"reading offset {offset} of {topic}[{partition}]")
        except (OutputError, SinkError):
            pull.state = step(pull.state, Event.REFUSED)
            pull.let_go()
            raise
        pull.state = step(pull.state, event)
        return self._whole(pull) if pull.state is State.COMPLETE else None

    def collecting(self) -> tuple[Collecting, ...]:
        """The pulls under way, one entry for each place that has records of them."""
        return tuple(
            Collecting(artifact, pull.facts.pull_id, place, first, pull.seen, pull.expected)
            for artifact, pull in self._pulls.items()
            if pull.state is State.COLLECTING
            for place, first in pull.first.items()
        )

    def first_offsets(self, artifact: str) -> Mapping[Place, int]:
        """The lowest offset seen of the artifact's newest pull, in each place that has records of it."""
        pull = self._pulls.get(artifact)
        return dict(pull.first) if pull is not None else {}

    def drop(self, topic: str, partition: int) -> None:
        """Forget every artifact that has records in this partition: it went to another reader, or is read anew."""
        gone = [artifact for artifact, pull in self._pulls.items() if (topic, partition) in pull.first]
        for artifact in gone:
            del self._pulls[artifact]
            self._over.pop(artifact, None)

    def _pull_of(self, file: FileRecord, place: Place, offset: int) -> _Pull | None:
        """The newest pull of the file's artifact, which is the file's own; None where the file's is an older one."""
        artifact, pull_id = file.pull.artifact, file.pull.pull_id
        current = self._pulls.get(artifact)
        if current is not None and current.facts.pull_id == pull_id:
            return current
        over = self._over.setdefault(artifact, {})
        if pull_id in over or (current is not None and _is_older(pull_id, place, offset, current)):
            return None
        if current is not None:
            current.state = step(current.state, Event.NEWER)
            over[current.facts.pull_id] = None
            while len(over) > _REMEMBERED:
                del over[next(iter(over))]
        self._pulls[artifact] = pull = _Pull(file.pull)
        return pull

    def _judge(self, pull: _Pull, file: FileRecord, doing: str) -> Event:
        """What the record does to a pull that is not whole yet; its content is kept."""
        facts = pull.facts
        if file.pull != facts:
            raise _invalid(doing, f"records of pull {facts.pull_id} do not agree on what the pull is")
        if max(facts.files, facts.deletes if not facts.files else 0) > self._max_files:
            raise _too_large(facts, f"it has {facts.files or facts.deletes} files, and size is {self._max_files}")
        if not file.path:
            return Event.LAST if not facts.files else Event.REPEAT
        if file.content is None:
            return _judge_tombstone(pull, file, doing)
        return self._judge_file(pull, file, file.content, doing)

    def _judge_file(self, pull: _Pull, file: FileRecord, content: bytes, doing: str) -> Event:
        if file.position >= pull.facts.files:
            raise _invalid(doing, f"a file at position {file.position} of a pull that has {pull.facts.files} files")
        known = pull.files.get(file.position)
        if known is not None:
            if known == file:
                return Event.REPEAT
            raise _invalid(doing, f"position {file.position} of pull {pull.facts.pull_id} came twice and differs")
        if file.path in pull.paths:
            raise _invalid(doing, f"pull {pull.facts.pull_id} has {file.path[:200]!r} at two positions")
        pull.size_bytes += len(content)
        if pull.size_bytes > self._max_total_size:
            seen = f"{len(pull.files) + 1} of its {pull.facts.files} files have {pull.size_bytes} bytes"
            raise _too_large(pull.facts, f"{seen}, and max_total_size is {self._max_total_size}")
        pull.files[file.position] = file
        pull.paths.add(file.path)
        return Event.LAST if len(pull.files) == pull.facts.files else Event.PART

    def _whole(self, pull: _Pull) -> Snapshot:
        files = tuple(pull.files[position] for position in range(pull.facts.files))
        snapshot = Snapshot(pull.facts, files, tuple(path for _, path in sorted(pull.removed.items())))
        pull.let_go()
        return snapshot


def _judge_tombstone(pull: _Pull, file: FileRecord, doing: str) -> Event:
    facts = pull.facts
    if not facts.files <= file.position < facts.files + facts.deletes:
        raise _invalid(
            doing, f"a tombstone at position {file.position}, with {facts.files} files and {facts.deletes} deletes"
        )
    known = pull.removed.setdefault(file.position, file.path)
    if known != file.path:
        raise _invalid(doing, f"position {file.position} of pull {facts.pull_id} came twice and differs")
    return Event.LAST if not facts.files and len(pull.removed) == facts.deletes else Event.REPEAT


def _is_older(pull_id: str, place: Place, offset: int, current: _Pull) -> bool:
    if place in current.first:
        return offset < current.first[place]
    return pull_id < current.facts.pull_id


def build(fields: Fields, parts: Parts) -> Snapshots:
    """The buffer of a flow."""
    return Snapshots(fields.size, parts.max_total_size, fields.timeout)


def _too_large(facts: PullFacts, cause: str) -> SinkError:
    return SinkError(
        reason="SnapshotTooLarge",
        doing=f"collecting pull {facts.pull_id} of {facts.artifact}",
        cause=cause,
        remedy="raise 'size' of the buffer or 'limits.max_total_size' in worker.yaml (operator), or publish less",
    )


def _invalid(doing: str, cause: str) -> OutputError:
    return OutputError(
        reason="RecordInvalid",
        doing=doing,
        cause=cause,
        remedy="another producer writes to this topic; give the flow a topic of its own (operator)",
    )
