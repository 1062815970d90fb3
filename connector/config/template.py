"""`{{ ... }}` in the fields of sink tasks: strict, bounded, and without any way to the outside.

What a template reads may come out of an artifact, so it is hostile input; the template itself is the operator's. Work,
memory and output are bounded by minijinja's fuel, which it charges for instructions and for the characters that it
makes, and by what `template_filters` asks of a text before. A template sees nothing but the values handed to it, and of
these the items only: neither a mapping, a list nor a text has methods. The syntax is Jinja's. Further filters:
`from_yaml`, `from_json`, `to_json`, `sha256`, `regex_match`, `basename`, `dirname`, `without_extension`.
"""

import re
from typing import Any, Final

from minijinja import Environment, TemplateError
from msgspec import Struct

from connector.config.problem import did_you_mean
from connector.config.template_filters import (
    FILTERS,
    IN_PLACE,
    NO_TEXT,
    REMOVED,
    bare,
    characters_in,
    forget,
    from_json,
    from_yaml,
    regex_match,
    to_json,
)
from connector.errors import ConfigError, SinkError

__all__ = [
    "Template",
    "compile_template",
    "filter_names",
    "from_json",
    "from_yaml",
    "regex_match",
    "to_json",
    "variables_of",
]

# A route's key takes some hundred. minijinja charges 1 for an instruction and for about 64 characters that it makes, so
# this is 13 MB of output at most, in well below a second. A sixteenth of what the values hold comes on top, so that
# `{{ content }}` works for the largest file, four times over.
_FUEL: Final = 200_000
_BLOCK: Final = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
_LITERAL: Final = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_FILTER: Final = re.compile(r"\|\s*([A-Za-z_]\w*)")
_LONGEST_TEMPLATE: Final = 10_000  # minijinja recurses: 20,000 signs in a row overflow the stack, and end the process


class Template(Struct, frozen=True):
    """A compiled template. Not for two threads at once: the fuel is a setting of its environment."""

    text: str
    environment: Environment

    def render(self, doing: str = "rendering a template", /, **values: Any) -> str:
        """The text with its values in place. Raises SinkError: TemplateFailed, also for an undefined value.

        `doing` says for what, in errors. The values themselves do not get into one.
        """
        self.environment.fuel = _FUEL + characters_in(values) // 16
        try:
            text = self.environment.render_template("it", **{name: bare(value) for name, value in values.items()})
            if NO_TEXT in text:
                raise ValueError("there is no key 'items'; for the pairs of a mapping there is the filter: `| items`")
            return text
        except Exception as error:  # a filter may be given anything, and one file must not end the worker
            raise SinkError(
                reason="TemplateFailed",
                doing=doing,
                cause=f"template {self.text[:200]!r}: {_first_line(error)}",
                remedy="mend the template in the flow file (operator), or the file that it reads (publisher)",
            ) from error
        finally:
            forget()


def compile_template(text: str) -> Template:
    """A template, its syntax checked. Raises ConfigError: BadValue, with the line within the template."""
    if len(text) > _LONGEST_TEMPLATE:
        raise _bad(text, f"longer than {_LONGEST_TEMPLATE} characters")
    # Without methods of texts: fuel is charged for one only after it has run, `"{:>9999999999}".format(1)`.
    environment = Environment(undefined_behavior="strict", auto_escape_callback=lambda _: False, pycompat=False)
    for name in REMOVED:
        environment.remove_filter(name)
    for name, function in (FILTERS | IN_PLACE).items():
        environment.add_filter(name, function)
    environment.remove_global("debug")  # prints every value
    try:
        environment.add_template("it", text)
    except TemplateError as error:
        raise _bad(text, _first_line(error)) from error
    for name in _filters_in(text):
        if not _is_filter(environment, name):
            raise _bad(text, f"unknown filter {name!r}" + did_you_mean(name, FILTERS, "filters beyond Jinja's own:"))
    return Template(text, environment)


def variables_of(template: Template) -> frozenset[str]:
    """The names that a template asks for, to check against what it will be given."""
    return frozenset(template.environment.undeclared_variables_in_str(template.text))


def filter_names() -> list[str]:
    """The filters beyond Jinja's own, for the docs."""
    return sorted(FILTERS)


def _filters_in(text: str) -> list[str]:
    """The names behind a `|`. minijinja itself looks a filter up only when it is reached, which may be weeks later."""
    return [name for block in _BLOCK.findall(text) for name in _FILTER.findall(_LITERAL.sub("''", block))]


def _is_filter(environment: Environment, name: str) -> bool:
    if name in FILTERS or name in IN_PLACE:
        return True
    try:
        environment.eval_expr(f"none | {name}")
    except TemplateError as error:
        return error.kind != "UnknownFilter"
    return True


def _bad(text: str, cause: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing="compiling a template",
        cause=f"{text[:200]!r}: {cause}",
        remedy="the syntax is Jinja's; docs/configuration.md lists the filters (operator)",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
