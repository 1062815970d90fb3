"""What a run prints: one row a fault."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.checker import Violation

_HEAD = ("fault", "times", "releases", "duplicates", "losses", "longest stall", "verdict")


@dataclass(frozen=True, slots=True)
class Row:
    """How one fault went. `stall` is in seconds, from a push until it, or a later one, was seen."""

    fault: str
    times: int
    releases: int
    duplicates: int
    losses: int
    stall: float
    violations: tuple[Violation, ...] = ()
    note: str = ""

    @property
    def verdict(self) -> str:
        """What a reader of the table wants to know first."""
        if self.violations:
            return "BROKEN: " + ", ".join(sorted({violation.promise for violation in self.violations}))
        return self.note or "held"


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown, with a line of sums."""
    lines = [_HEAD, *(_cells(row) for row in rows), _sums(rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    ruler = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (lines[0], ruler, *lines[1:])
    )


def _cells(row: Row) -> tuple[str, ...]:
    counts = (row.times, row.releases, row.duplicates, row.losses)
    return (row.fault, *map(str, counts), f"{row.stall:.1f} s", row.verdict)


def _sums(rows: Sequence[Row]) -> tuple[str, ...]:
    sums = [sum(getattr(row, name) for row in rows) for name in ("times", "releases", "duplicates", "losses")]
    broken = sum(bool(row.violations) for row in rows)
    stall = max((row.stall for row in rows), default=0.0)
    return ("all", *map(str, sums), f"{stall:.1f} s", f"{broken} broken" if broken else "all held")
