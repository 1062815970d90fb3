"""The body of a script's process: JSON in on standard input, JSON out on standard output, then the end.

In:  {"code", "memory_bytes", "events": [{"data", "meta"}, …]}, and for a check "check_seconds" in place of the events
Out: {"events": [[{"data", "meta"}, …] for each event]} or {"error": "line 3: …"}, and of a check {"problems": […]}

Starlark has no `a.b` for mappings. So that events and YAML read as they do in other flow languages, `.name` that is not
a call is rewritten to `["name"]` before the script is compiled; lines stay where they are.
"""

import hashlib
import io
import json
import re
import resource
import signal
import sys
import tokenize
from collections.abc import Callable
from typing import Any

from connector.config.template_filters import from_json, from_yaml, to_json
from connector.errors import ConfigError
from connector.sink.store_parts import optional

_FILE = "script"
_CALL_DEPTH = 200
_AT = re.compile(rf"--> {_FILE}:(\d+):")
_PATTERN_LENGTH = 1000
# What stands in a script for other flow engines, and in no line of Starlark outside of text and comments.
_RHAI = re.compile(r"^[ \t]*let\s+\w+\s*=|#\{", re.MULTILINE)


def main() -> None:
    """Read one request, answer it."""
    request = json.loads(sys.stdin.buffer.read())
    # Set only now: what was read counts as well, so a snapshot that does not fit is an error here and not a surprise.
    resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(json.dumps(_check(request) if "check_seconds" in request else _run(request)))


def _run(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"events": run(request["code"], request["events"])}
    except ScriptError as error:
        return {"error": str(error)}


def _check(request: dict[str, Any]) -> dict[str, Any]:
    # The signal ends the process wherever it is, in a regular expression as well; and time spent waiting for a CPU does
    # not count.
    signal.setitimer(signal.ITIMER_PROF, request["check_seconds"])
    return {"problems": problems_of(request["code"])}


class ScriptError(Exception):
    """A script that cannot be compiled, failed, or returned what no event can be; `str` names the line."""


def run(code: str, events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """What `main` returns for each event, as a list of events. Raises ScriptError."""
    starlark = _starlark()
    module = _module(starlark)
    try:
        starlark.eval(module, _parse(starlark, code), _globals(starlark))
        frozen = module.freeze()
    except starlark.StarlarkError as error:
        raise ScriptError(explain(str(error))) from error
    options = starlark.EvalOptions(max_callstack_size=_CALL_DEPTH)
    made: list[list[dict[str, Any]]] = []
    for number, event in enumerate(events):
        try:
            returned = frozen.call_with(options, "main", event).value
            made.append(_events(returned))
        except (starlark.StarlarkError, ScriptError) as error:
            raise ScriptError(f"{explain(str(error))} (event {number + 1} of {len(events)})") from error
    return made


def problems_of(code: str) -> list[str]:
    """What the compiler says of a script, each with its line; empty where it can run. Runs its top level, unbounded."""
    problems = _compiled(code)
    rhai = _RHAI.search(code) if problems else None
    if rhai is None:
        return problems
    line = code.count("\n", 0, rhai.start()) + 1
    return [f"line {line}: {rhai[0].strip()!r} is Rhai, and scripts are Starlark; docs/tasks/script.md has both"]


def _compiled(code: str) -> list[str]:
    try:
        starlark = _starlark()
    except ConfigError as error:
        return [error.cause]
    options = starlark.EvalOptions(max_callstack_size=_CALL_DEPTH)
    try:
        # Names are resolved when the top level runs, so it runs; that is the definition of main, and little else.
        starlark.eval_with(options, _module(starlark), _parse(starlark, code), _globals(starlark))
    except ScriptError as error:
        return [str(error)]
    except starlark.StarlarkError as error:
        return [explain(str(error))]
    return [] if re.search(r"^def\s+main\s*\(", code, re.MULTILINE) else ["it does not define main(event)"]


def explain(text: str) -> str:
    """One line out of Starlark's report: the innermost line of the script, and what went wrong there."""
    places = _AT.findall(text)
    cause = next((line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error: ")), "")
    cause = (cause or (text.strip().splitlines() or ["failed"])[0])[:500]
    return f"line {places[-1]}: {cause}" if places else cause


def with_attributes(code: str) -> str:
    """The script with `.name` (no call) as `["name"]`. Raises ScriptError where it cannot be read."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        at = error.args[1][0] if len(error.args) > 1 and isinstance(error.args[1], tuple) else None
        raise ScriptError(f"line {at}: {error.args[0]}" if at else str(error)) from error
    lines = code.splitlines(keepends=True)
    # From the end, so that the columns of what is still to come stay right.
    for dot, name, after in reversed(list(zip(tokens, tokens[1:], tokens[2:], strict=False))):
        if dot.string == "." and name.type == tokenize.NAME and after.string != "(" and dot.end == name.start:
            row, start = dot.start
            line = lines[row - 1]
            lines[row - 1] = f'{line[:start]}["{name.string}"]{line[name.end[1] :]}'
    return "".join(lines)


def _parse(starlark: Any, code: str) -> Any:
    dialect = starlark.Dialect.extended()
    dialect.enable_load = False
    dialect.enable_top_level_stmt = True
    dialect.enable_f_strings = True
    return starlark.parse(_FILE, with_attributes(code), dialect)


def _module(starlark: Any) -> Any:
    module = starlark.Module()
    for name, function in _FUNCTIONS.items():
        module.add_callable(name, function)
    return module


def _globals(starlark: Any) -> Any:
    extension = starlark.LibraryExtension
    return starlark.Globals.extended_by([extension.Map, extension.Filter])


def _starlark() -> Any:  # a library without types
    return optional("starlark", package="starlark-pyo3", extra="script", doing="running a script")


def _events(returned: Any) -> list[dict[str, Any]]:
    several = returned if isinstance(returned, list | tuple) else [] if returned is None else [returned]
    return [_event(one) for one in several]


def _event(one: Any) -> dict[str, Any]:
    if not isinstance(one, dict):
        raise ScriptError(f"main returned {type(one).__name__} where an event, a list of events or None belongs")
    is_event = one.keys() in ({"data"}, {"data", "meta"})
    event = {"meta": {}, **one} if is_event else {"data": one, "meta": {}}
    if not isinstance(event["data"], dict) or not isinstance(event["meta"], dict):
        raise ScriptError("data and meta of an event are mappings")
    return event


def _regex(pattern: str, text: str) -> list[str] | None:
    """The first match and its groups, None where there is none. Bounded by the process's time alone."""
    if len(pattern) > _PATTERN_LENGTH:
        raise ValueError(f"the pattern is longer than {_PATTERN_LENGTH} characters")
    try:
        found = re.search(pattern, text)
    except re.error as error:
        raise ValueError(f"the pattern is no regular expression: {error}") from error
    return [found[0], *(group or "" for group in found.groups())] if found else None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "parse_yaml": from_yaml,
    "parse_json": from_json,
    "to_json": to_json,
    "regex": _regex,
    "sha256": lambda text: hashlib.sha256(text.encode()).hexdigest(),
}


if __name__ == "__main__":
    main()
