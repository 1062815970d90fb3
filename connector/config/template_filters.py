"""The filters of templates beyond minijinja's own, and those of its own that a file could make take too much.

minijinja charges a filter for what it made, once it is made, and for what Python does not at all. So the size of the
text is asked here first: for the values of a document, the parts of a text, and what escapes make of it.
"""

import hashlib
import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from connector.config.yaml_lines import MAX_BYTES, parse_yaml
from connector.errors import OciSyncError

NO_TEXT: Final = "\0items\0"
_MOST_NESTED: Final = 50
_MOST_PARTS: Final = 200_000  # 76 bytes a part here and 24 in minijinja
_MOST_WRITTEN: Final = 2_000_000  # characters; JSON and URLs may have twelve for one
# Measured: bytes of a mapping, of a list, of a part of one, and of a key with its value.
_JSON_BYTES: Final = {"{": 330, "[": 180, ",": 60, ":": 110}
_MOST_JSON_BYTES: Final = 48_000_000


def from_yaml(text: str) -> Any:
    """One YAML 1.2 document as plain values, within the bounds of yaml_lines. Raises ValueError."""
    try:
        return parse_yaml(_text(text, "from_yaml").encode(), "the text").plain()
    except OciSyncError as error:
        raise ValueError(f"from_yaml: {error.cause}") from error


def from_json(text: str) -> Any:
    """JSON as plain values. Raises ValueError."""
    try:
        return json.loads(_text(text, "from_json"))
    except RecursionError as error:
        raise ValueError("from_json: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"from_json: {error}") from error


def to_json(value: Any) -> str:
    """Compact JSON; keys stay in their order. Raises ValueError."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, RecursionError) as error:
        raise ValueError("to_json: not a plain value") from error


def regex_match(text: str, pattern: str) -> bool:
    """Whether the pattern is found in the text. Linear in time: Rust's syntax, no look-around. Raises ValueError."""
    try:
        _regex(_text(pattern, "regex_match")).validate_python(_text(text, "regex_match"))
    except ValidationError:
        return False
    return True


def characters_in(value: Any, depth: int = _MOST_NESTED) -> int:
    """How many characters the texts in a value have; what is no text counts as one."""
    if isinstance(value, str):
        return len(value)
    if depth and isinstance(value, Mapping):
        return sum(characters_in(part, depth - 1) for part in map(value.__getitem__, value))
    if depth and isinstance(value, list | tuple):
        return sum(characters_in(part, depth - 1) for part in value)
    return 1


def bare(value: Any) -> Any:
    """The value, with mappings and lists that have no methods."""
    if isinstance(value, dict):
        return _Mapping(zip(dict.keys(value), map(bare, dict.values(value)), strict=True))
    return _List(map(bare, value)) if isinstance(value, list | tuple) else value


def forget() -> None:
    """Drop what was parsed for the render that is over."""
    _yaml_values.cache_clear()


class _Items:
    """The pairs of a mapping, for the filter `items`. As a text it is a mistake: a method was meant, or a key."""

    def __init__(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        self._pairs = pairs

    def __call__(self) -> Sequence[tuple[Any, Any]]:
        return self._pairs

    def __str__(self) -> str:
        return NO_TEXT  # an error raised here would be swallowed on the way


class _Mapping(dict[Any, Any]):
    """A mapping of which a template sees the items, and nothing that Python's has besides."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name == "items":  # minijinja takes for a mapping what has it
            return _Items([*dict.items(self)])
        return _special(self, name)


class _List(list[Any]):
    """A list of which a template sees the items, and nothing that Python's has besides."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        return _special(self, name)


def _special(value: object, name: str) -> Any:
    if name.startswith("__"):  # what Python itself asks for; minijinja lets no template do so
        return object.__getattribute__(value, name)
    raise AttributeError(f"a template has no method or attribute {name!r} here")


# A template that asks a file for two values reads it once.
@lru_cache(maxsize=4)
def _yaml_values(text: str) -> Any:
    return bare(from_yaml(text))


@lru_cache(maxsize=64)
def _regex(pattern: str) -> TypeAdapter[str]:
    # Python's own `re` can take for ever on a short text; pydantic has Rust's engine on board.
    try:
        return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern, strict=True)])
    except SchemaError as error:
        raise ValueError("regex_match: the pattern is no regular expression that Rust's engine knows") from error


def _from_yaml(value: Any) -> Any:
    text = _text(value, "from_yaml")
    if len(text) > MAX_BYTES:
        raise ValueError(f"from_yaml: larger than {MAX_BYTES // 1024} KiB")
    return _yaml_values(text)


def _from_json(value: Any) -> Any:
    text = _text(value, "from_json")
    if len(text) + sum(size * text.count(sign) for sign, size in _JSON_BYTES.items()) > _MOST_JSON_BYTES:
        raise ValueError(f"from_json: its values may take more than {_MOST_JSON_BYTES // 1_000_000} MB")
    try:
        return bare(from_json(text))
    except RecursionError as error:
        raise ValueError("from_json: nested too deeply") from error


def _to_json(value: Any) -> str:
    _short(value, "to_json")
    return to_json(value)


def _urlencode(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError(f"urlencode: it takes a text, and was given {_kind(value)}")
    _short(value, "urlencode")
    return quote(str(value), safe="/")


def _split(value: Any, separator: str | None = None, most: int | None = None) -> Any:
    text = _text(value, "split")
    parts = text.split(separator, _MOST_PARTS if most is None or most < 0 else min(most, _MOST_PARTS))
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"split: more than {_MOST_PARTS} parts; a number behind the separator says how many")
    return bare(parts)


def _lines(value: Any) -> Any:
    lines = _split(_text(value, "lines").removesuffix("\n"), "\n") if value else []
    return bare([line.removesuffix("\r") for line in lines])


def _length(value: Any) -> int:
    if not isinstance(value, str | list | tuple | Mapping):
        raise ValueError(f"length: {_kind(value)} has none")
    return len(value)


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "from_yaml": _from_yaml,
    "from_json": _from_json,
    "to_json": _to_json,
    "sha256": lambda text: hashlib.sha256(str(text).encode()).hexdigest(),
    "regex_match": regex_match,
    "basename": lambda path: posixpath.basename(_text(path, "basename")),
    "dirname": lambda path: posixpath.dirname(_text(path, "dirname")),
    "without_extension": lambda path: posixpath.splitext(_text(path, "without_extension"))[0],
}

IN_PLACE: Final[dict[str, Callable[..., Any]]] = {
    "tojson": _to_json,
    "urlencode": _urlencode,
    "split": _split,
    "lines": _lines,
    "length": _length,
    "count": _length,
}
"""What stands in the place of minijinja's own."""

REMOVED: Final = ("batch", "e", "escape", "indent", "pprint", "slice", "striptags", "wordwrap")
"""For pages and for people: of no use in a key, and each takes many times its text before it is charged."""


def _short(value: Any, name: str) -> None:
    if characters_in(value) > _MOST_WRITTEN:
        raise ValueError(f"{name}: more than {_MOST_WRITTEN} characters")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}: it takes a text, and was given {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return type(value).__name__.strip("_").lower()
