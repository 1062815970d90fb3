"""Measured values against their bars, and the table they make."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Point:
    """One place on a curve of cost; the name of the series says what `x` and `y` are, with units."""

    series: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. `value` is compared with `bar` (at most) and `towards`; without a bar it is told only."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    towards: float | None = None
    detail: str = ""
    points: tuple[Point, ...] = ()

    def __str__(self) -> str:
        return f"{self.what}: {_number(self.value, self.unit)} {self.verdict}".rstrip()

    @property
    def verdict(self) -> str:
        """In one word, beside the bar."""
        if self.bar is None:
            return ""
        if self.value > self.bar:
            return "MISSED"
        return "reached" if self.towards is not None and self.value <= self.towards else "met"


@dataclass(frozen=True, slots=True)
class Pair:
    """One run of ours and one of a peer's, one after the other."""

    ours: float
    theirs: float


def ratio(pairs: Iterable[Pair]) -> float:
    """The median of the pairs' ratios."""
    return median(pair.ours / pair.theirs for pair in pairs)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`median (lowest to highest)`."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    lines = ["| what | measured | bar | towards | | detail |", "|---|---|---|---|---|---|"]
    for result in results:
        bar = "" if result.bar is None else _number(result.bar, result.unit)
        towards = "" if result.towards is None else _number(result.towards, result.unit)
        measured = _number(result.value, result.unit)
        lines.append(f"| {result.what} | {measured} | {bar} | {towards} | {result.verdict} | {result.detail} |")
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    digits = 0 if unit in ("MB", "") else 2
    return f"{value:.{digits}f} {unit}".rstrip()
