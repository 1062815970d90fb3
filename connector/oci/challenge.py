"""What a registry asks for: `WWW-Authenticate` headers as challenges. Pure.

Follows RFC 9110, section 11.6.1: a header may hold several challenges, a response several headers, a value may be
quoted and hold commas. What cannot be understood is skipped up to the next challenge, since one bad challenge must not
hide a good one.
"""

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^ \t,"]+)')
_SCHEME = re.compile(rf"({_WORD})(?:[ \t]+|$|(?=,))")
_GAP = re.compile(r"[ \t,]*")
_LONGEST = 16 * 1024  # of one header; what a sane registry sends has 300 bytes
_MOST = 20


class Challenge(Struct, frozen=True):
    """One way to authenticate: the scheme and its parameters, both with names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges in the order they came, at most 20. Never raises."""
    challenges: list[Challenge] = []
    for header in headers:
        challenges.extend(_parse(header[:_LONGEST]))
    return tuple(challenges[:_MOST])


def _parse(header: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    position = _gap(header, 0)
    while position < len(header):
        parameter = _PARAMETER.match(header, position)
        scheme = _SCHEME.match(header, position)
        if parameter and found:
            found[-1][1].setdefault(parameter[1].lower(), _unquote(parameter[2]))
            position = parameter.end()
        elif scheme and not parameter:
            found.append((scheme[1].lower(), {}))
            position = scheme.end()
        else:
            position = _skip(header, position)
        position = _gap(header, position)
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def _gap(header: str, position: int) -> int:
    match = _GAP.match(header, position)
    return match.end() if match else position


def _skip(header: str, position: int) -> int:
    """Behind the next comma; a quotation mark that is never closed hides the rest."""
    comma = header.find(",", position)
    return len(header) if comma < 0 else comma + 1


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
