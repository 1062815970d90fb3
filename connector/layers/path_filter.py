"""`include` and `exclude`: which paths and media types are wanted. Pure.

Rules. (1) A pattern is matched against the whole canonical path, part by part: `*`, `?` and `[…]` stay within a part,
`**` stands for any number of parts, none too; so `*.yaml` is a file at the top and `**/*.yaml` one anywhere. A pattern
that ends in '/' means all below. (2) Without `include` everything is wanted; `exclude` wins over `include`.
(3) For media types `*` matches any characters. (4) Matching takes no more than the product of the two lengths,
whatever the path: a path comes out of an artifact.
"""

import fnmatch
import re
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import force_setattr

_ANY_PARTS = None  # `**`

_Part = re.Pattern[str] | None


class PathFilter(Struct, frozen=True):
    """Compiled patterns for paths."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _included: tuple[tuple[_Part, ...], ...] = ()
    _excluded: tuple[tuple[_Part, ...], ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "_included", tuple(_compile(pattern) for pattern in self.include))
        force_setattr(self, "_excluded", tuple(_compile(pattern) for pattern in self.exclude))

    def wants(self, path: str) -> bool:
        """Whether a canonical path is wanted."""
        if not self._included and not self._excluded:
            return True
        parts = path.split("/")
        if self._included and not any(_matches(pattern, parts) for pattern in self._included):
            return False
        return not any(_matches(pattern, parts) for pattern in self._excluded)


class MediaTypeFilter(Struct, frozen=True):
    """Compiled patterns for media types, which are compared in lower case."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _included: tuple[re.Pattern[str], ...] = ()
    _excluded: tuple[re.Pattern[str], ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "_included", _compile_all(self.include))
        force_setattr(self, "_excluded", _compile_all(self.exclude))

    def wants(self, media_type: str) -> bool:
        """Whether a media type, in lower case and without parameters, is wanted."""
        if self._included and not any(pattern.match(media_type) for pattern in self._included):
            return False
        return not any(pattern.match(media_type) for pattern in self._excluded)


def _compile_all(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(fnmatch.translate(pattern.lower())) for pattern in patterns)


def _compile(pattern: str) -> tuple[_Part, ...]:
    below = "**" if pattern.endswith("/") else ""
    parts = [part for part in (pattern + below).split("/") if part not in ("", ".")]
    # fnmatch.translate makes each '*' but the last atomic, so one part does not backtrack over another.
    return tuple(_ANY_PARTS if part == "**" else re.compile(fnmatch.translate(part)) for part in parts)


def _matches(pattern: Sequence[_Part], parts: Sequence[str]) -> bool:
    """Greedy matching with one place to go back to: the last `**`, which can always take one part more."""
    at = part_at = 0
    resume: tuple[int, int] | None = None
    while part_at < len(parts):
        if at < len(pattern) and pattern[at] is _ANY_PARTS:
            resume = (at + 1, part_at)
            at += 1
            continue
        wanted = pattern[at] if at < len(pattern) else None
        if wanted is not None and wanted.match(parts[part_at]):
            at, part_at = at + 1, part_at + 1
            continue
        if resume is None:
            return False
        at, part_at = resume[0], resume[1] + 1
        resume = (at, part_at)
    return all(part is _ANY_PARTS for part in pattern[at:])
