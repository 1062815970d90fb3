"""`{{ ... }}` in the fields of sink tasks: strict, bounded, and without any way to the outside.

A template, and what it reads, may come out of an artifact, so both are hostile input. Work, memory and output are
bounded by minijinja's fuel, which it charges for instructions and for the characters that it makes; a template sees
nothing but the values handed to it, and no Python attribute. The syntax is Jinja's. Further filters: `from_yaml`,
`from_json`, `to_json`, `sha256`, `regex_match`, `basename`, `dirname`, `without_extension`.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Mapping
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
            return self.environment.render_template("it", **values)
        except (TemplateError, OciSyncError, ValueError, TypeError, RecursionError, OverflowError) as error:
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
    environment = Environment(undefined_behavior="strict", auto_escape_callback=lambda _: False)
    for name, function in _FILTERS.items():
        environment.add_filter(name, function)
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
        return parse_yaml(text.encode(), "the text").plain()
    except OciSyncError as error:
        raise ValueError(f"from_yaml: {error.cause}") from error


def from_json(text: str) -> Any:
    """JSON as plain values. Raises ValueError."""
    try:
        return json.loads(text)
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
        _regex(pattern).validate_python(text)
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
    "basename": lambda path: posixpath.basename(path),
    "dirname": lambda path: posixpath.dirname(path),
    "without_extension": lambda path: posixpath.splitext(path)[0],
}


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
