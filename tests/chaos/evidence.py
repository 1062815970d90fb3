"""What a run leaves for the judge: what was pushed, what workers said, and what readers of their own saw. Values."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Release:
    """One push: what the tag named from `pushed_at` (monotonic seconds) on."""

    digest: str
    files: Mapping[str, str]
    pushed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as a reader met it, at `seen_at` monotonic seconds."""

    partition: int
    offset: int
    key: str
    value: bytes | None
    headers: Mapping[str, str]
    seen_at: float = 0.0

    @property
    def pull_id(self) -> str:
        """The pull that the record belongs to, empty where it says nothing."""
        return self.headers.get("oci.pull_id", "")

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.key.partition("#")[2]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it, of one source.

    `records` and `offsets` are what a read_committed reader finds from the beginning when all is quiet; `watched` what
    one saw that read along during the faults. `reported` pairs pull id and digest of each commit in the workers' logs.
    `ends` maps a partition to its last stable offset and its high watermark; `written_while_idle` counts the offsets
    that some unchanged ticks took. `compacted` says that the offsets topic was, so that it holds the newest only.
    """

    releases: tuple[Release, ...]
    records: tuple[Entry, ...]
    offsets: tuple[Entry, ...]
    watched: tuple[Entry, ...] | None = None
    reported: tuple[tuple[str, str], ...] = ()
    ends: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    written_while_idle: int = 0
    compacted: bool = False
