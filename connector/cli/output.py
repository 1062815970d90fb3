"""What a verb prints: rows as a table, JSON or YAML on standard output, and errors on standard error.

A table is plain, aligned text; on a terminal its head is bold and states are coloured, unless `NO_COLOR` is set.
Nothing that came from outside can move the cursor, for control characters are shown as escapes. No secret that was
loaded is shown.
"""

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

from connector.config.problem import ConfigProblems
from connector.errors import OciSyncError
from connector.telemetry.log_lines import SECRETS, printable


class OutputFormat(StrEnum):
    """How data is written on standard output."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def show(rows: Sequence[Mapping[str, Any]], output: OutputFormat, empty: str = "") -> None:
    """Write rows to standard output. `empty` is said on standard error where a table would have no row."""
    if output is OutputFormat.TABLE and not rows:
        sys.stderr.write(empty + "\n" if empty else "")
        return
    sys.stdout.write(written(rows, output, bold=is_colourful(sys.stdout)))


def written(rows: Any, output: OutputFormat, *, bold: bool = False) -> str:
    """Rows, or for JSON and YAML any plain value, as text that ends in a newline."""
    if output is OutputFormat.TABLE:
        return table(rows, bold=bold)
    plain = SECRETS.redact_values(json.loads(json.dumps(rows, default=str)))
    return as_yaml(plain) if output is OutputFormat.YAML else as_json(plain, indent=2) + "\n"


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), *, bold: bool = False) -> str:
    """Aligned columns under upper-case heads: `columns`, else the rows' keys as they come; no trailing blanks."""
    heads = list(columns or dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(head)) for head in heads] for row in rows]
    widths = [max([len(head), *(len(row[index]) for row in cells)]) for index, head in enumerate(heads)]
    first = _line([head.upper().replace("_", " ") for head in heads], widths)
    return "".join(
        [f"\x1b[1m{first}\x1b[0m\n" if bold else f"{first}\n", *(_line(row, widths) + "\n" for row in cells)]
    )


def visible(text: str) -> str:
    """The text as a terminal may show it: without secrets, and with escapes for what is no visible character."""
    return printable(SECRETS.redact(text))


def is_colourful(stream: TextIO) -> bool:
    """Whether escapes may be written: a terminal that is not dumb, and no `NO_COLOR` (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say_error(error: OciSyncError, stream: TextIO | None = None) -> None:
    """The error as a block a person reads: what was being done, what came back, what to do."""
    out = stream or sys.stderr
    red, plain = ("\x1b[1;31m", "\x1b[0m") if is_colourful(out) else ("", "")
    causes = [str(problem) for problem in error.problems] if isinstance(error, ConfigProblems) else [error.cause]
    out.write(f"{red}error{plain}: {visible(error.doing)} failed ({error.reason})\n")
    for cause in causes:
        for line in cause.splitlines() or [""]:
            out.write(f"  {visible(line)}\n")
    out.write(f"to do: {visible(error.remedy)}\n")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return visible(text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON, on one line unless it is to be indented; what is not visible is escaped, letters of any script are not."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def as_yaml(value: Any) -> str:
    """YAML, ended by a newline."""
    from ruamel.yaml import YAML  # here, for it costs 0.1 s that only `-o yaml` should pay

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    setattr(yaml, "sort_base_mapping_type_on_output", False)  # noqa: B010  the library's stub allows None only
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()
