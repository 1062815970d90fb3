"""YAML 1.2 text → values that remember where they stand.

Rules. (1) Core schema: `no`, `on`, `012` and `30:30` mean what they show; dates stay text. (2) A key that stands twice
is an error, and so is a key that is no text. (3) Anchors, aliases and `<<` work, within bounds: a file is a few
kilobytes that a person wrote, so what is larger is an attack or an accident. (4) One document a file.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct, field
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from connector.config.problem import ConfigProblems, Problem, shown

# ruamel reads about 250 KB a second; a flow with long scripts has 20 KB. Larger: start-up hangs. Smaller: annoys.
MAX_BYTES = 1_048_576
MAX_DEPTH = 50
MAX_NODES = 100_000  # after aliases; nine aliases of nine aliases, nine deep, would be 387 million

Location: TypeAlias = tuple[int | str, ...]
Scalar: TypeAlias = "str | int | float | bool | None"

_NULL = re.compile(r"(?:|~|null|Null|NULL)\Z")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,40}\Z")
_OCTAL = re.compile(r"0o[0-7]{1,40}\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,40}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,3})?\Z")
_STRANGE_FLOAT = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_TAG = "tag:yaml.org,2002:"
_QUOTE_TEMPLATES = (
    'a key must be text (a value that starts with "{{" must stand in quotes, else YAML takes it for a mapping)'
)


class Node(Struct, frozen=True):
    """A value and its place (from 1). Children of a mapping stand under their keys, in the order of the file."""

    value: "Scalar | dict[str, Node] | list[Node]"
    line: int
    column: int
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)  # of a mapping: where each key stands

    def child(self, part: int | str) -> "Node | None":
        if isinstance(self.value, dict) and isinstance(part, str):
            return self.value.get(part)
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None


class Document(Struct, frozen=True):
    """A YAML file. `root` is a scalar None for an empty one."""

    file: str
    root: Node

    def node(self, location: Location) -> Node:
        """The node at a location, or the deepest one on the way there. Parts that lead nowhere are passed over."""
        node = self.root
        for part in location:
            node = node.child(part) or node
        return node

    def plain(self, location: Location = (), text: Callable[[str], str] = str) -> Any:
        """Plain dicts, lists and scalars from a location on; `text` is applied to every string value, not to keys."""
        return _plain(self.node(location), text, [MAX_NODES], 0)

    def problem(self, location: Location, reason: str, message: str, *, at_key: bool = False) -> Problem:
        """A problem at a value, or at the key that leads to it."""
        node = self.node(location)
        line, column = node.line, node.column
        if at_key and location and isinstance(key := location[-1], str):
            line, column = self.node(location[:-1]).keys.get(key, (line, column))
        return Problem(self.file, line, column, reason, message)


def read_yaml(path: Path) -> Document:
    """The document in a file. Raises ConfigError: FileUnreadable, BadYaml."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _failure(str(path), 0, 0, cause, "FileUnreadable", "check the path and who may read it") from error
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, file: str) -> Document:
    """The document in some bytes. `file` is the name for messages. Raises ConfigError: BadYaml."""
    if len(data) > MAX_BYTES:
        raise _failure(
            file, 0, 0, f"larger than {MAX_BYTES // 1024} KiB", "BadYaml", "split the file, or check the path"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        raise _failure(file, line, column, "is not UTF-8 text", "BadYaml", "save it as UTF-8") from error
    try:
        document = Document(file, _Builder(file, YAML(typ="safe", pure=True).parse(text)).document())
        document.plain()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise _failure(file, line, column, _explain(error)) from error
    except ReaderError as error:
        before_text = text[: error.position]
        line, column = before_text.count("\n") + 1, len(before_text) - before_text.rfind("\n")
        raise _failure(file, line, column, "a character that YAML does not allow; remove it") from error
    except RecursionError as error:
        raise _failure(file, 0, 0, "nested too deeply") from error
    except _TooMuch as error:
        raise _failure(file, 0, 0, str(error)) from error
    except (YAMLError, ValueError, OverflowError, IndexError, AttributeError, TypeError, AssertionError) as error:
        # The parser's own accidents, for example an escape beyond Unicode.
        raise _failure(file, 0, 0, f"the YAML parser gave up on it ({type(error).__name__})") from error
    return document


class _TooMuch(Exception):
    """Aliases that expand beyond bounds."""


class _Builder:
    """Events → nodes, without the library's own composer: that one recurses, and drops the places of keys."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self.file = file
        self.events = events
        self.anchors: dict[str, Node] = {}
        self.depth = 0
        self.count = 0

    def document(self) -> Node:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise self._failure(event, "a second document starts here; one file holds one")
                root = self._node(next(self.events))
        return root or Node(None, 1, 1)

    def _node(self, event: Any) -> Node:
        self.count += 1
        if self.count > MAX_NODES:
            raise self._failure(event, f"more than {MAX_NODES} values")
        if isinstance(event, AliasEvent):
            if event.anchor not in self.anchors:
                raise self._failure(event, f"alias {shown('*' + str(event.anchor))} has no anchor above it")
            return self.anchors[event.anchor]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._failure(event, f"nested deeper than {MAX_DEPTH} levels")
        node = self._fresh(event)
        self.depth -= 1
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _fresh(self, event: Any) -> Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, ScalarEvent):
            return Node(self._scalar(event), line, column)
        if (tag := _tag(event)) not in (None, _TAG + "map", _TAG + "seq"):
            raise self._failure(event, f"tag {shown(tag)} is not supported")
        if isinstance(event, SequenceStartEvent):
            items = []
            while not isinstance(following := next(self.events), SequenceEndEvent):
                items.append(self._node(following))
            return Node(items, line, column)
        if isinstance(event, MappingStartEvent):
            return self._mapping(line, column)
        raise self._failure(event, "cannot be read here")

    def _mapping(self, line: int, column: int) -> Node:
        entries: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        merged: list[Node] = []
        while not isinstance(event := next(self.events), MappingEndEvent):
            node = self._node(event)
            if isinstance(event, ScalarEvent) and event.value == "<<" and event.style is None:
                merged.extend(self._merged(event, self._node(next(self.events))))
                continue
            key = self._key(event, node)
            if key in keys:
                raise self._failure(event, f"{shown(key)} stands twice; it is already at line {keys[key][0]}")
            keys[key] = (node.line, node.column)
            entries[key] = self._node(next(self.events))
        for source in merged:
            values = source.value if isinstance(source.value, dict) else {}
            self.count += len(values)
            if self.count > MAX_NODES:
                raise self._failure(event, f"more than {MAX_NODES} values, with those that `<<` merges")
            for key, value in values.items():
                if key not in entries:
                    entries[key], keys[key] = value, source.keys[key]
        return Node(entries, line, column, keys)

    def _key(self, event: Any, node: Node) -> str:
        if isinstance(event, ScalarEvent):
            return str(event.value)  # as written: `on`, `8080` and `1.0` are names here
        if isinstance(node.value, str):
            return node.value
        raise self._failure(event, _QUOTE_TEMPLATES)

    def _merged(self, event: Any, node: Node) -> list[Node]:
        sources = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(source.value, dict) for source in sources):
            raise self._failure(event, "`<<` takes a mapping, or a list of mappings")
        return sources

    def _scalar(self, event: Any) -> Scalar:
        tag, text = _tag(event), str(event.value)
        if tag == _TAG + "str" or (tag is None and event.style is not None):
            return text
        value = _core_schema(text)
        expected: dict[str, tuple[type, ...]] = {
            "int": (int,),
            "float": (int, float),
            "bool": (bool,),
            "null": (type(None),),
        }
        if tag is None or isinstance(value, expected.get(tag.removeprefix(_TAG), ())):
            return value
        raise self._failure(event, f"tag {shown(tag)} is not supported here")

    def _failure(self, event: Any, message: str) -> ConfigProblems:
        return _failure(self.file, event.start_mark.line + 1, event.start_mark.column + 1, message)


def _tag(event: Any) -> str | None:
    return str(event.tag) if getattr(event, "tag", None) and str(event.tag) != "!" else None


def _core_schema(text: str) -> Scalar:
    if _NULL.match(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text)
    if _OCTAL.match(text):
        return int(text[2:], 8)
    if _HEX.match(text):
        return int(text[2:], 16)
    if _FLOAT.match(text):
        return float(text)
    if _STRANGE_FLOAT.match(text):
        return float(text.replace(".", ""))
    return text


def _plain(node: Node, text: Callable[[str], str], left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        raise _TooMuch(f"its aliases expand to more than {MAX_NODES} values or {MAX_DEPTH} levels")
    value = node.value
    if isinstance(value, dict):
        return {key: _plain(child, text, left, depth + 1) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child, text, left, depth + 1) for child in value]
    return text(value) if isinstance(value, str) else value


def _explain(error: MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or "cannot be read").split())
    if "'\\t'" in problem or "\t" in str(error.problem):
        return "a tab where YAML wants spaces; indent with spaces"
    context = f" ({' '.join(str(error.context).split())})" if error.context and error.problem else ""
    return f"not YAML: {problem}{context}"


def _failure(
    file: str, line: int, column: int, message: str, reason: str = "BadYaml", remedy: str = ""
) -> ConfigProblems:
    return ConfigProblems(f"reading {file}", [Problem(file, line, column, reason, message)], remedy)
