"""`{{ ... }}` in the fields of sink tasks: strict, bounded, and without any way to the outside.

What a template reads may come out of an artifact, so it is hostile input; the template itself is the operator's. Work,
memory and output are bounded by minijinja's fuel, which it charges for instructions and for the characters that it
makes. A template sees nothing but the values handed to it, and of these the items only: neither a mapping, a list nor
a text has methods. The syntax is Jinja's. Further filters: `from_yaml`, `from_json`, `to_json`, `sha256`,
`regex_match`, `basename`, `dirname`, `without_extension`.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final

from minijinja import Environment, TemplateError
from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from connector.config.problem import did_you_mean
from connector.config.yaml_lines import parse_yaml
from connector.errors import ConfigError, OciSyncError, SinkError

# A route's key takes some hundred. minijinja charges 1 for an instruction and for about 64 characters that it makes, so
# this is 13 MB of output at most, in well below a second. A sixteenth of what the values hold comes on top, so that
# `{{ content }}` works for the largest file, four times over.
_FUEL: Final = 200_000
_BLOCK: Final = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
_LITERAL: Final = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_FILTER: Final = re.compile(r"\|\s*([A-Za-z_]\w*)")
_LONGEST_TEMPLATE: Final = 100_000
_MOST_NESTED: Final = 50
_NO_TEXT: Final = "\0items\0"


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. Not for two threads at once: the fuel is a setting of its environment."""

    text: str
    environment: Environment

    def render(self, doing: str = "rendering a template", /, **values: Any) -> str:
        """The text with its values in place. Raises SinkError: TemplateFailed, also for an undefined value.

        `doing` says for what, in errors. The values themselves do not get into one.
        """
        self.environment.fuel = _FUEL + _characters(values, _MOST_NESTED) // 16
        try:
            text = self.environment.render_template("it", **{name: _bare(value) for name, value in values.items()})
            if _NO_TEXT in text:
                raise ValueError("there is no key 'items'; for the pairs of a mapping there is the filter: `| items`")
            return text
        except Exception as error:  # a filter may be given anything, and one file must not end the worker
            raise SinkError(
                reason="TemplateFailed",
                doing=doing,
                cause=f"template {self.text[:200]!r}: {_first_line(error)}",
                remedy="mend the template in the flow file (operator), or the file that it reads (publisher)",
            ) from error


def compile_template(text: str) -> Template:
    """A template, its syntax checked. Raises ConfigError: BadValue, with the line within the template."""
    if len(text) > _LONGEST_TEMPLATE:
        raise _bad(text, f"longer than {_LONGEST_TEMPLATE} characters")
    # Without methods of texts: fuel is charged for one only after it has run, `"{:>9999999999}".format(1)`.
    environment = Environment(undefined_behavior="strict", auto_escape_callback=lambda _: False, pycompat=False)
    for name, function in _FILTERS.items():
        environment.add_filter(name, function)
    environment.add_filter("tojson", to_json)  # Jinja's own makes its indent before it is charged for it
    environment.remove_global("debug")  # prints every value
    try:
        environment.add_template("it", text)
    except TemplateError as error:
        raise _bad(text, _first_line(error)) from error
    for name in _filters_in(text):
        if not _is_filter(environment, name):
            raise _bad(text, f"unknown filter {name!r}" + did_you_mean(name, _FILTERS, "filters beyond Jinja's own:"))
    return Template(text, environment)


def variables_of(template: Template) -> frozenset[str]:
    """The names that a template asks for, to check against what it will be given."""
    return frozenset(template.environment.undeclared_variables_in_str(template.text))


def from_yaml(text: str) -> Any:
    """One YAML 1.2 document as plain values, within the bounds of yaml_lines. Raises ValueError."""
    try:
        return _bare(parse_yaml(_text(text, "from_yaml").encode(), "the text").plain())
    except OciSyncError as error:
        raise ValueError(f"from_yaml: {error.cause}") from error


def from_json(text: str) -> Any:
    """JSON as plain values. Raises ValueError."""
    try:
        return _bare(json.loads(_text(text, "from_json")))
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


@lru_cache(maxsize=64)
def _regex(pattern: str) -> TypeAdapter[str]:
    # Python's own `re` can take for ever on a short text; pydantic has Rust's engine on board.
    try:
        return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern, strict=True)])
    except SchemaError as error:
        raise ValueError("regex_match: the pattern is no regular expression that Rust's engine knows") from error


_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "from_yaml": from_yaml,
    "from_json": from_json,
    "to_json": to_json,
    "sha256": lambda text: hashlib.sha256(str(text).encode()).hexdigest(),
    "regex_match": regex_match,
    "basename": lambda path: posixpath.basename(_text(path, "basename")),
    "dirname": lambda path: posixpath.dirname(_text(path, "dirname")),
    "without_extension": lambda path: posixpath.splitext(_text(path, "without_extension"))[0],
}


class _Items:
    """The pairs of a mapping, for the filter `items`. As a text it is a mistake: a method was meant, or a key."""

    def __init__(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        self._pairs = pairs

    def __call__(self) -> Sequence[tuple[Any, Any]]:
        return self._pairs

    def __str__(self) -> str:
        return _NO_TEXT  # an error raised here would be swallowed on the way


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


def _bare(value: Any) -> Any:
    """The value, with mappings and lists that have no methods."""
    if isinstance(value, dict):
        return _Mapping((key, _bare(part)) for key, part in dict.items(value))
    return _List(_bare(part) for part in value) if isinstance(value, list | tuple) else value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name}: it takes a text, and was given {type(value).__name__.strip('_').lower()}")
    return value


def filter_names() -> list[str]:
    """The filters beyond Jinja's own, for the docs."""
    return sorted(_FILTERS)


def _filters_in(text: str) -> list[str]:
    """The names behind a `|`. minijinja itself looks a filter up only when it is reached, which may be weeks later."""
    return [name for block in _BLOCK.findall(text) for name in _FILTER.findall(_LITERAL.sub("''", block))]


def _is_filter(environment: Environment, name: str) -> bool:
    if name in _FILTERS:
        return True
    try:
        environment.eval_expr(f"none | {name}")
    except TemplateError as error:
        return error.kind != "UnknownFilter"
    return True


def _characters(value: Any, depth: int) -> int:
    if isinstance(value, str):
        return len(value)
    if depth and isinstance(value, Mapping):
        return sum(_characters(part, depth - 1) for part in value.values())
    if depth and isinstance(value, list | tuple):
        return sum(_characters(part, depth - 1) for part in value)
    return 1


def _bad(text: str, cause: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing="compiling a template",
        cause=f"{text[:200]!r}: {cause}",
        remedy="the syntax is Jinja's; docs/configuration.md lists the filters (operator)",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
