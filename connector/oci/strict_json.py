"""JSON from others, read strictly. Pure.

Two readers of one document must not see two things, so what parsers disagree on is refused: duplicate names, NaN and
Infinity, numbers beyond 64 bits, a byte-order mark, text that is not UTF-8, lone surrogates, endless nesting.
"""

import json
import math
import re
from itertools import islice
from typing import Any, NoReturn

_MOST_CONTAINERS = 200_000  # 4 MiB of empty objects would take 120 MB, measured; a manifest of 1,000 layers has 3,000
# A name with its value takes up to 270 bytes, so 4 MiB of short ones took 100 MB, measured, and now 28. A manifest of
# 1,000 layers with ten annotations each has 16,000 values.
_MOST_VALUES = 100_000
# Never goes back, and takes a text that does not end too, or each quote in it would be tried up to the end.
_COMMA_OR_TEXT = re.compile(rb',|"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_LONGEST_INTEGER = 20  # digits and sign of a 64-bit integer


def parse_json(data: bytes) -> Any:
    """The value of a JSON text (RFC 8259). Raises ValueError that says what is wrong and never quotes values."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    if data.count(b"{") + data.count(b"[") > _MOST_CONTAINERS:
        raise ValueError(f"it holds more than {_MOST_CONTAINERS} objects and lists")
    if data.count(b",") >= _MOST_VALUES and _has_many_values(data):
        raise ValueError(f"it holds more than {_MOST_VALUES} values")
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte-order mark")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
        if "\\u" in text:  # only an escape can bring a lone surrogate in
            _check_texts(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half a surrogate pair") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _has_many_values(data: bytes) -> bool:
    """Whether there are as many commas outside of texts; what stands in a text costs nothing."""
    commas = (found for found in _COMMA_OR_TEXT.finditer(data) if found[0] == b",")
    return next(islice(commas, _MOST_VALUES - 1, None), None) is not None


def _check_texts(value: Any) -> None:
    """Raise UnicodeEncodeError for half a surrogate pair; one text at a time, for all of them may be long."""
    match value:
        case str():
            value.encode("utf-8")
        case dict():
            for name, inner in value.items():
                _check_texts(name)
                _check_texts(inner)
        case list():
            for inner in value:
                _check_texts(inner)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {name[:60]!r} stands twice in one object")
            seen.add(name)
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value
