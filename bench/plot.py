"""How cost grows, as an SVG: a panel a series, both axes logarithmic, so that linear growth is a line of slope one."""

from collections.abc import Iterable, Sequence
from math import ceil, floor, log10
from pathlib import Path
from xml.sax.saxutils import escape

from bench.result import Point

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 340, 260, 56, 40, 28
_STYLE = "font-family:sans-serif;font-size:11px;fill:#444"


def write_plot(path: Path, points: Iterable[Point]) -> None:
    """Write the points, a panel for each series, in the order of their first points; nothing where there is none."""
    panels: dict[str, list[Point]] = {}
    for point in points:
        panels.setdefault(point.series, []).append(point)
    if not panels:
        return
    width = _WIDTH * len(panels)
    body = "".join(
        f'<g transform="translate({_WIDTH * number},0)">{_panel(name, series)}</g>'
        for number, (name, series) in enumerate(panels.items())
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}">'
        f'<rect width="{width}" height="{_HEIGHT}" fill="#fff"/><g style="{_STYLE}">{body}</g></svg>\n',
        encoding="utf-8",
    )


def _panel(name: str, points: Sequence[Point]) -> str:
    across = _Axis([point.x for point in points], _LEFT, _WIDTH - 16)
    up = _Axis([point.y for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(name)}</text>']
    for decade in across.decades():
        x = across.at(10.0**decade)
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{_HEIGHT - _BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">{_short(10.0**decade)}</text>')
    for decade in up.decades():
        y = up.at(10.0**decade)
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - 16}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 4}" y="{y + 4}" text-anchor="end">{_short(10.0**decade)}</text>')
    # What exactly linear growth from the last point backwards would be.
    last = points[-1]
    first_y = max(last.y * points[0].x / last.x, 10.0**up.first)
    first_x = last.x * first_y / last.y
    parts.append(
        f'<line x1="{across.at(first_x)}" y1="{up.at(first_y)}" x2="{across.at(last.x)}" y2="{up.at(last.y)}" '
        'stroke="#999" stroke-dasharray="4 3"/>'
    )
    places = [(across.at(point.x), up.at(point.y)) for point in points]
    line = " ".join(f"{x},{y}" for x, y in places)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0b62a4" stroke-width="2"/>')
    parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="#0b62a4"/>' for x, y in places]
    return "".join(parts)


class _Axis:
    """Decades of values along a stretch of pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.first, self.last = floor(log10(min(values))), ceil(log10(max(values)))
        self.last = max(self.last, self.first + 1)
        self._start, self._scale = start, (end - start) / (self.last - self.first)

    def decades(self) -> range:
        """The powers of ten that get a line."""
        return range(self.first, self.last + 1)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return round(self._start + (log10(value) - self.first) * self._scale, 1)


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
