"""The values of the status: identities, facts of sources, sinks, partitions, flows and the worker. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

from msgspec import Struct, field

from connector.errors import OciSyncError

# One late tick is a slow pull, two are bad luck; at three somebody should look.
INTERVALS_UNTIL_OVERDUE = 3
_MESSAGE_CHARACTERS = 2_000

Result = Literal["unchanged", "changed", "error"]


class SourceId(NamedTuple):
    """An `oci_sync` task: the name of its flow and its own."""

    flow: str
    source: str


class SinkId(NamedTuple):
    """The sink half of a flow, named by its last task."""

    flow: str
    sink: str


class Truth(StrEnum):
    """A condition's status; Unknown where nothing was observed yet, or another worker would know."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class PartitionState(StrEnum):
    """Where a partition of the offsets topic that is assigned to this worker stands."""

    RESTORING = "restoring"
    RUNNING = "running"
    DRAINING = "draining"
    FAILED = "failed"


class Delivered(Struct, frozen=True):
    """What readers of the topic have: the snapshot whose commit is known, by this worker or by the one before."""

    digest: str
    files: int
    pull_id: str
    committed_at: datetime


class Problem(Struct, frozen=True):
    """The last failure in a form that can be shown: an error of the tree without its traceback."""

    kind: str  # the class of the error
    reason: str
    message: str
    transient: bool

    @staticmethod
    def of(error: OciSyncError) -> "Problem":
        """The problem an error stands for; long messages are cut."""
        return Problem(type(error).__name__, error.reason, str(error)[:_MESSAGE_CHARACTERS], error.transient)


class Attempt(Struct, frozen=True):
    """One finished tick that was not "unchanged", for the history of a source."""

    at: datetime
    result: Result
    digest: str
    reason: str
    seconds: float


class Partition(Struct, frozen=True):
    """A partition this worker owns."""

    number: int
    state: PartitionState
    since: datetime
    problem: Problem | None = None


class Source(Struct, frozen=True):
    """All facts of one source. `watched_since` is the moment from which the next end of a tick is awaited."""

    id: SourceId
    artifact: str
    tag: str | None
    partition: int
    interval: timedelta | None
    watched_since: datetime
    delivered: Delivered | None = None
    paused: bool = False
    started_at: datetime | None = None  # of the tick under way, else None
    retrying: str = ""  # what its last attempt failed with, while it is tried again
    last_attempt: datetime | None = None
    last_success: datetime | None = None
    last_change: datetime | None = None
    last_result: Result | None = None
    took: timedelta = timedelta()
    next_tick: datetime | None = None
    problem: Problem | None = None
    consecutive_failures: int = 0
    ticks: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (class, reason) → count
    history: tuple[Attempt, ...] = ()

    @property
    def revision(self) -> str:
        """`<tag>@<digest>` of what readers have, the digest alone where no tag is followed, '' before any commit."""
        if self.delivered is None:
            return ""
        return f"{self.tag}@{self.delivered.digest}" if self.tag else self.delivered.digest

    @property
    def overdue_at(self) -> datetime | None:
        """When a tick should have ended at the latest; None without an interval to measure by."""
        if self.interval is None or self.paused:
            return None
        return self.watched_since + INTERVALS_UNTIL_OVERDUE * self.interval


class Sink(Struct, frozen=True):
    """All facts of one sink. `lag_records` is None until the end of the topic was seen once."""

    id: SinkId
    topic: str
    lag_records: int | None = None
    digest: str = ""
    last_applied: datetime | None = None
    last_attempt: datetime | None = None
    next_try: datetime | None = None
    problem: Problem | None = None
    consecutive_failures: int = 0
    snapshots: Mapping[str, int] = field(default_factory=dict)  # applied, unchanged, error
    writes: Mapping[str, int] = field(default_factory=dict)  # put, delete, skip


class Flow(Struct, frozen=True):
    """A flow file: loaded, or the problem that keeps it out."""

    file: str
    name: str  # empty where the file could not be read as far as that
    since: datetime
    problem: Problem | None = None


class Budget(NamedTuple):
    """Requests that a registry still lets us make, and of how many, as it said last."""

    remaining: int
    limit: int | None


class Worker(Struct, frozen=True):
    """The facts of this process. `kafka_reachable` is None until a first answer or failure."""

    instance: str
    started_at: datetime
    joined: bool = False
    generation: int = -1
    kafka_reachable: bool | None = None
    kafka_since: datetime | None = None
    kafka_problem: Problem | None = None
    flows_differ: str = ""  # in words; empty where all live workers carry the same flows
    budgets: Mapping[str, Budget] = field(default_factory=dict)  # by registry, of those that say
