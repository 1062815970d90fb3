"""What every task of the sink half is handed when it is built."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parts:
    """Settings that a task does not have in its own fields.

    `max_total_size` is the worker's limit for the bytes of one snapshot.
    """

    flow: str
    max_total_size: int = 100_000_000
