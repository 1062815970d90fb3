"""What comes of a tick: unchanged, a committed pull, or a plan; and the seconds of its phases."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from time import monotonic

from msgspec import Struct

from connector.kafka.transaction import Committed
from connector.records.file_record import Change
from connector.records.source_offset import SourceOffset
from connector.status import Delivered
from connector.telemetry import Phase

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows a pull: given the artifact and the bytes to come, what it yields is called with those that came."""


def silent(_artifact: str, _total_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
    """A progress that shows nothing."""
    return nullcontext(lambda _count: None)


class Unchanged(Struct, frozen=True):
    """The digest is that of the last commit."""

    digest: str


class Pull(Struct, frozen=True):
    """A committed pull: its offset, what changed, and the seconds each phase took."""

    offset: SourceOffset
    changes: Mapping[Change, int]
    committed: Committed
    phases: Mapping[Phase, float]


class Planned(Struct, frozen=True):
    """What the next pull would do: each path with its change, and the bytes of those that stay or come."""

    digest: str
    changes: Mapping[str, Change]
    sizes: Mapping[str, int]


class Phases:
    """Seconds of each phase, one after the other."""

    def __init__(self) -> None:
        self.seconds: dict[Phase, float] = {}
        self._since = monotonic()

    def end(self, phase: Phase) -> None:
        now = monotonic()
        self.seconds[phase] = now - self._since
        self._since = now

    def total(self) -> float:
        return sum(self.seconds.values())


def delivered(offset: SourceOffset) -> Delivered:
    """What an offset says that readers have."""
    return Delivered(
        digest=offset.digest,
        files=offset.files,
        pull_id=offset.pull_id,
        committed_at=datetime.fromtimestamp(offset.committed_at / 1000, UTC),
    )
