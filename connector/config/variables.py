"""`{{env.NAME}}` in a file's text values. Strict, expanded once, and its values never reach a message.

Only this exact shape is ours; every other `{{ ... }}` is a template of some task and passes untouched.
"""

import re
from collections.abc import Mapping
from typing import Final

# With or without blanks; `{{-` is a template's way to trim, and means nothing here.
_VARIABLE: Final = re.compile(r"\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]{0,127})\s*\}\}")
_NEARLY: Final = re.compile(r"\{\{-?\s*env\b[^}]{0,100}\}\}")
# A value of one to three characters is no secret ("1", "dev"), and to blot it out would garble messages.
_SHORTEST_SECRET: Final = 4


class Variables:
    """The environment as one file may use it. Remembers what it gave, in order to blot it out of messages."""

    def __init__(self, environ: Mapping[str, str], *, strict: bool = True) -> None:
        """`strict=False` leaves undefined variables as they are written."""
        self._environ = environ
        self._strict = strict
        self._used: dict[str, str] = {}  # value → name

    def expand(self, text: str) -> str:
        """The text with its variables replaced. What a variable holds is not expanded again."""
        return _VARIABLE.sub(self._value, text)

    def undefined(self, text: str) -> list[str]:
        """The variables of a text that the environment does not have; not looked at where we are not strict."""
        if not self._strict:
            return []
        return [name for name in _VARIABLE.findall(text) if name not in self._environ]

    def names(self) -> frozenset[str]:
        """Every variable there is, to suggest from."""
        return frozenset(self._environ)

    def redact(self, message: str) -> str:
        """The message with each value that was handed out replaced by its variable's name."""
        for value, name in sorted(self._used.items(), key=lambda item: -len(item[0])):
            message = message.replace(value, "{{env." + name + "}}")
        return message

    def _value(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in self._environ:
            return match[0]
        value = self._environ[name]
        if len(value) >= _SHORTEST_SECRET:
            self._used[value] = name
        return value


def malformed_variable(text: str) -> str | None:
    """A piece of text that looks like `{{env.NAME}}` and is not, for example with a filter behind it."""
    for match in _NEARLY.finditer(text):
        if not _VARIABLE.fullmatch(match[0]):
            return match[0]
    return None


def has_variable(text: object) -> bool:
    return isinstance(text, str) and _VARIABLE.search(text) is not None
