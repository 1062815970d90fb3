"""What is wrong with a file the user wrote: where, what, and what was probably meant.

A reader of a file collects every problem and raises them together, so that one look at the terminal mends the file.
A problem never holds the value of an environment variable, nor of a field whose name smells of a secret.
"""

import difflib
import re
from collections.abc import Iterable

from msgspec import Struct

from connector.errors import ConfigError

_MOST_SHOWN = 20  # in the error's one line; `problems` has them all
_SPELLING = re.compile(r"[^a-z0-9]")


class Problem(Struct, frozen=True, order=True):
    """One mistake. `line` and `column` count from 1; both are 0 where the file as a whole is meant.

    `reason` is one of ConfigError's words.
    """

    file: str
    line: int
    column: int
    reason: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


class ConfigProblems(ConfigError):
    """Every problem of one file. Its reason is that of the first; `problems` is sorted by place and never empty."""

    def __init__(self, doing: str, problems: Iterable[Problem], remedy: str = "") -> None:
        self.problems = tuple(sorted(set(problems)))
        first = self.problems[0]
        count = f"{len(self.problems)} problems: " if len(self.problems) > 1 else ""
        more = f"; and {len(self.problems) - _MOST_SHOWN} more" if len(self.problems) > _MOST_SHOWN else ""
        super().__init__(
            reason=first.reason,
            doing=doing,
            cause=count + "; ".join(map(str, self.problems[:_MOST_SHOWN])) + more,
            remedy=remedy
            or "correct the file, then ask `oci-sync validate --offline`; docs/configuration.md has every field",
        )


class Finding(Struct, frozen=True):
    """What came of one question that `validate` put to a registry, to Kafka or to a store.

    `reason` is a word of the tree of errors, None where all is well. `message` says what was seen, or what to do.
    """

    subject: str
    reason: str | None
    message: str


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` is most likely a slip of, or None.

    Case, '-', '_' and '.' do not count: `Force-Pull` is `force_pull`.
    """
    names = {_spelling(name): name for name in known}
    found = difflib.get_close_matches(_spelling(word[:100]), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], noun: str) -> str:
    """The end of a message about an unknown name: a suggestion, else the whole choice."""
    names = sorted(known)
    suggestion = nearest(word, names)
    if suggestion is not None:
        return f": did you mean {suggestion!r}?"
    return f"; {noun} {_enumerate(names)}" if names else ""


def shown(name: object) -> str:
    """A name or value of the file as it may stand in a message: quoted, printable, of bounded length."""
    text = name if isinstance(name, str) else repr(name)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _spelling(name: str) -> str:
    return _SPELLING.sub("", name.lower()) or name


def _enumerate(names: list[str]) -> str:
    return ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
