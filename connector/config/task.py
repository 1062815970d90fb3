"""What a task is, and where it is found: the word in the flow file is the name of the module.

A task module offers
    class Fields(TaskFields)       what the user may write under the word; each field with a description
    build(fields, parts)           the task, out of its fields and what the wiring hands it
    check(fields) -> problems      optional: what only the fields together can show; touches no network. Each problem
                                   is a message that may begin with its place (`routes[0].key: ...`), or a pair of a
                                   location within the fields and a message
`connector/source/tasks/` holds the first half of a flow, `connector/sink/tasks/` the second. Another package offers a
module by the entry-point group `oci_sync.tasks`; it belongs to the sink half unless it says `HALF = "source"`.

A validator in `Fields` raises ValueError without the offending value in its text (that value may be a secret);
`checked_by` makes one of a function that parses or compiles.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)

from connector.config.problem import did_you_mean, shown
from connector.errors import ConfigError, OciSyncError

Half: TypeAlias = Literal["source", "sink"]

ENTRY_POINTS: Final = "oci_sync.tasks"
_PACKAGES: Final[dict[Half, str]] = {"source": "connector.source.tasks", "sink": "connector.sink.tasks"}
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")

_UNITS: Final = {
    **dict.fromkeys(("us", "usec"), timedelta(microseconds=1)),
    **dict.fromkeys(("ms", "msec", "millis"), timedelta(milliseconds=1)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), timedelta(seconds=1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day", "days"), timedelta(days=1)),
    **dict.fromkeys(("w", "week", "weeks"), timedelta(weeks=1)),
}
_DURATION_PART: Final = re.compile(r"\s*([0-9]{1,15})\s*([a-z]+)")
_LONGEST: Final = timedelta(days=3650)  # far below what datetime arithmetic can hold; a typing slip, not a plan

_SIZES = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGT", start=1):
    _SIZES |= {f"{_letter}B": 1000**_power, _letter: 1000**_power}
    _SIZES |= {f"{_letter}IB": 1024**_power, f"{_letter}I": 1024**_power}
_SIZE_LIMIT: Final = 2**63
_SIZE: Final = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,3}))?\s*([A-Za-z]{0,3})\Z")


def parse_duration(value: object) -> timedelta:
    """A humantime text (`500ms`, `30s`, `1h30m`, `1h 30m`) as a timedelta. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, int | float) or text.isdigit():
        raise ValueError("needs a unit: 500ms, 30s, 5m or 1h30m")
    total, end = timedelta(), 0
    while end < len(text):
        part = _DURATION_PART.match(text, end)
        if part is None or part[2] not in _UNITS:
            raise ValueError("should be a duration such as 500ms, 30s, 5m or 1h30m")
        if int(part[1]) * (_UNITS[part[2]] / _UNITS["us"]) > _LONGEST / _UNITS["us"]:
            raise ValueError("is longer than ten years")
        total += int(part[1]) * _UNITS[part[2]]
        end = part.end()
    if not text or total > _LONGEST:
        raise ValueError("should be a duration such as 500ms, 30s, 5m or 1h30m, at most ten years")
    return total


def format_duration(duration: timedelta) -> str:
    """The shortest humantime text: 90 minutes are `1h30m`, nothing is `0s`."""
    left, text = duration, ""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, left = divmod(left, _UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(value: object) -> int:
    """`10MB`, `64KiB`, `1.5GB` or a plain number as bytes. `MB` is a million, `MiB` 1024 squared. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < _SIZE_LIMIT:
            raise ValueError("should not be negative, nor beyond what a file can be")
        return value
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if match is None or match[3].upper() not in _SIZES:
        raise ValueError("should be a size such as 10MB, 64KiB or a number of bytes")
    fraction = match[2] or "0"
    factor = _SIZES[match[3].upper()]
    thousandths = int(match[1]) * 1000 + int(fraction.ljust(3, "0"))
    if thousandths * factor % 1000 or thousandths * factor >= _SIZE_LIMIT * 1000:
        raise ValueError("should be a whole number of bytes")
    return thousandths * factor // 1000


def format_size(size_bytes: int) -> str:
    """`10MB`, `64KiB`, `1500B`: the largest unit that divides the number."""
    for power, letter in reversed(list(enumerate("KMGT", start=1))):
        if size_bytes and size_bytes % 1000**power == 0:
            return f"{size_bytes // 1000**power}{letter}B"
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{letter}iB"
    return f"{size_bytes}B"


def _beside_the_file(value: Any, info: ValidationInfo) -> Any:
    directory = (info.context or {}).get("directory")
    if isinstance(value, str) and value and directory is not None:
        if "\0" in value:
            raise ValueError("should be a path")
        return Path(directory) / value
    return value


def checked_by(parse: Callable[[Any], object]) -> AfterValidator:
    """A validator that keeps the value and refuses what `parse` refuses with an error of the tree, or ValueError.

    So `artifact: Annotated[str, checked_by(parse_reference)]` has its mistakes shown at the field's line and column.
    """

    def check(value: Any) -> Any:
        try:
            parse(value)
        except OciSyncError as error:
            raise ValueError(f"{error.cause} ({error.remedy})") from error
        return value

    return AfterValidator(check)


Duration: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\s*([0-9]{1,15}\s*[a-z]+\s*)+$", "examples": ["500ms", "30s", "5m", "1h30m"]}
    ),
]
Size: TypeAlias = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]([iI]?[bB]?)|[bB])?$"},
            ],
            "examples": ["64KiB", "10MB"],
        }
    ),
]
LocalPath: TypeAlias = Annotated[Path, BeforeValidator(_beside_the_file)]
"""A path on this machine; a relative one starts at the directory of the file that names it."""


class Strict(BaseModel):
    """What every part of a file is: no unknown fields, and nothing changes after reading."""

    # `defer_build`: a model that another one holds is built with that one, and not once more by itself at the import.
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=False, hide_input_in_errors=True, defer_build=True
    )


class RetryFields(Strict):
    """How often a transient failure is tried again within one tick."""

    max_attempts: int = Field(10, ge=1, le=1000, description="Attempts in all, the first one counted.")
    initial_backoff: Duration = Field(
        timedelta(seconds=1), description="Wait before the second attempt; doubled for each further one, with jitter."
    )


class TaskFields(Strict):
    """The fields that every task has. `for_both_halves`: those that the half asks for which does not run the task."""

    for_both_halves: ClassVar[frozenset[str]] = frozenset()

    name: str = Field(
        min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._-]+$", description="Task name, unique within its flow."
    )
    depends_on: tuple[str, ...] = Field((), description="Upstream task names; without it, the task above this one.")


def task_words() -> dict[str, Half]:
    """Every word a flow file may use for a task, with the half it belongs to. Imports no task."""
    words: dict[str, Half] = {}
    for half, package in _PACKAGES.items():
        folder = import_module(package).__path__
        words |= {module.name: half for module in iter_modules(folder) if not module.name.startswith("_")}
    return words | {point.name: "sink" for point in entry_points(group=ENTRY_POINTS) if point.name not in words}


def find_task(word: str) -> ModuleType:
    """The module of a task. Raises ConfigError: UnknownTask, with the nearest word."""
    if _WORD.match(word):
        for package in _PACKAGES.values():
            if find_spec(f"{package}.{word}") is not None:
                return import_module(f"{package}.{word}")
        for point in entry_points(group=ENTRY_POINTS, name=word):
            return _imported(word, point.module)
    raise ConfigError(
        reason="UnknownTask",
        doing="looking for a task",
        cause=f"unknown task {shown(word)}" + did_you_mean(word, task_words(), "tasks are"),
        remedy="use one of these, or install the package that offers it",
    )


def _imported(word: str, module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            reason="UnknownTask",
            doing="looking for a task",
            cause=f"the package that offers {word!r} cannot be imported: {error}",
            remedy="install that package anew, with what it needs",
        ) from error


def half_of(module: ModuleType) -> Half:
    """Which half of a flow a task module belongs to: told by its package."""
    if module.__name__.startswith(_PACKAGES["source"] + "."):
        return "source"
    half: Half = getattr(module, "HALF", "sink")
    return half
