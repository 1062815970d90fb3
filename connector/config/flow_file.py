"""A flow file → Flow: tasks in order of dependence, cut in two at `oci_sync`.

    flow:
      name: system_sync_flows
      tasks:
        - generate: {name: tick, interval: 30s}
        - oci_sync: {name: pull_repo, artifact: "registry.example.com/org/flows:prod"}
        - ...                                        the sink half

Rules. (1) A task depends on the one above it unless `depends_on` names others; `generate` starts a chain and depends on
nothing. (2) No cycles, no two tasks of one name, no two `oci_sync` of one artifact: they would share an offset.
(3) What stands above and with `oci_sync` is the source half, what follows it the sink half. (4) A worker that runs one
half needs the variables of that half only: those of the other may be undefined. (5) Top-level keys that begin with
`x-` are the user's own, for anchors.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from msgspec import Struct
from pydantic import Field

from connector.config.dependence import (
    Draft,
    Mistake,
    doubles,
    in_order,
    with_dependences,
    wrong_dependences,
    wrong_shape,
)
from connector.config.fields import Source, field_names, nested_models, read_fields
from connector.config.flow import Flow, Task
from connector.config.problem import ConfigProblems, Problem, shown
from connector.config.task import Half, Strict, TaskFields, find_task, half_of
from connector.config.variables import Variables, has_variable
from connector.config.yaml_lines import Document, Location, read_yaml
from connector.errors import ConfigError, OciSyncError

__all__ = ["Flow", "FlowFields", "LoadedFlows", "Task", "load_flow", "load_flows"]

# `oci.<flow name>` must fit a topic's name, which has at most 249 characters.
_LONGEST_NAME: Final = 200
_PLACE: Final = re.compile(r"[a-z]\w*(?:\[[0-9]{1,6}\]|\.[a-z]\w*)*\Z")
_SUFFIXES: Final = (".yaml", ".yml")
_MOST_TASKS: Final = 1_000
_TASKS: Final[Location] = ("flow", "tasks")


class FlowFields(Strict):
    """What stands under `flow:`."""

    name: str = Field(
        min_length=1,
        max_length=_LONGEST_NAME,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Flow name; part of the topic's name and of the key of the source offset.",
    )
    tasks: list[Any] = Field(
        min_length=1, max_length=_MOST_TASKS, description="The tasks, each a mapping of its word to its fields."
    )


class _FlowFile(Strict):
    flow: FlowFields


class LoadedFlows(Struct, frozen=True):
    """Flows that can run, and for each file that cannot, why. One bad file never hides the others."""

    flows: tuple[Flow, ...]
    refused: tuple[tuple[Path, ConfigError], ...]


def load_flows(paths: Iterable[Path], only: Half | None = None, environ: Mapping[str, str] = os.environ) -> LoadedFlows:
    """The flows of files and directories (their `*.yaml` and `*.yml`, sorted).

    Two files with one flow name: the first stands, the second is refused.
    """
    flows: dict[str, Flow] = {}
    refused: list[tuple[Path, ConfigError]] = []
    for path in _files(paths):
        try:
            flow = load_flow(path, only, environ)
            if flow.name in flows:
                raise _same_name(flow, flows[flow.name])
            flows[flow.name] = flow
        except ConfigError as error:
            refused.append((path, error))
    return LoadedFlows(tuple(flows.values()), tuple(refused))


def load_flow(path: Path, only: Half | None = None, environ: Mapping[str, str] = os.environ) -> Flow:
    """The flow in a file. Raises ConfigError (a ConfigProblems that lists all of them), any of its reasons.

    `only` names the half that will run; variables of the other half may then be undefined.
    """
    document = read_yaml(path)
    reader = _FlowReader(document, Variables(environ), Variables(environ, strict=False), only)
    flow = reader.read(path)
    if flow is None or reader.problems:
        raise ConfigProblems(f"reading the flow file {path}", reader.problems)
    return flow


class _FlowReader:
    """One reading of one file; collects problems and goes on as far as the file makes sense."""

    def __init__(self, document: Document, strict: Variables, lenient: Variables, only: Half | None) -> None:
        self.document = document
        self.only = only
        self.found = _find_tasks(document)
        elsewhere = _elsewhere(document, self.found)
        self.strict = Source(document, strict, elsewhere)
        self.lenient = Source(document, lenient, elsewhere)
        self.problems: list[Problem] = []

    def read(self, path: Path) -> Flow | None:
        head = self._head()
        if head is None:
            return None
        drafts = [task for index in range(len(head.tasks)) if (task := self._task(index)) is not None]
        tasks = self._hang_together(drafts)
        return Flow(head.name, path, tuple(task for _, task in tasks))

    def _hang_together(self, drafts: Sequence[Draft]) -> Sequence[Draft]:
        """The tasks in order, as far as what was found until here lets us ask for it."""
        unread = bool(self.problems)  # a task that could not be read would be missed by those that name it
        self._found(doubles(drafts))
        if unread:
            return ()
        self._found(wrong_dependences(drafts))
        if self.problems:
            return ()
        ordered = in_order(with_dependences(drafts))
        if isinstance(ordered, Mistake):
            self._found([ordered])
            return ()
        self._found(wrong_shape(ordered, _TASKS))
        return ordered

    def _head(self) -> FlowFields | None:
        if not isinstance(self.document.root.value, dict):
            what = "is empty" if self.document.root.value is None else "holds no mapping"
            self._add((), "BadValue", f"the file {what}; a flow file begins with `flow:`")
            return None
        outer = {key: None for key in self.document.root.value if not key.startswith("x-")}
        self.problems += self.strict.variable_problems(("flow", "name"))
        values = self.document.plain()
        if isinstance(values.get("flow"), dict) and isinstance(values["flow"].get("name"), str):
            values["flow"]["name"] = self.strict.variables.expand(values["flow"]["name"])
        found = read_fields(_FlowFile, self.strict, (), {key: values[key] for key in outer})
        if isinstance(found, list):
            self.problems += found
            flow = self.document.node(("flow",)).child("tasks")
            count = min(len(flow.value), _MOST_TASKS) if flow is not None and isinstance(flow.value, list) else 0
            for index in range(count):
                self._task(index)  # its problems are worth showing too
            return None
        return found.flow

    def _task(self, index: int) -> tuple[Location, Task] | None:
        at: Location = (*_TASKS, index)
        value = self.document.node(at).value
        if not isinstance(value, dict) or len(value) != 1:
            if isinstance(value, dict) and len(value) > 1:
                words = ", ".join(shown(key) for key in list(value)[:4])
                self._add(at, "BadValue", f"a task is one word with its fields below it; here are {words}. Indent them")
            else:
                self._add(
                    at, "BadValue", "a task is a mapping of its word to its fields, as `- generate: {name: tick}`"
                )
            return None
        word = next(iter(value))
        module = self.found[word]
        if isinstance(module, ConfigError):
            self._add((*at, word), module.reason, module.cause, at_key=True)
            return None
        half = half_of(module)
        fields = self._fields(module, (*at, word), runs=self.only in (None, half))
        if fields is None:
            return None
        task = Task(word, fields.name, half, fields, fields.depends_on, module, self.document.node(at).line)
        return (*at, word), task

    def _fields(self, module: ModuleType, at: Location, *, runs: bool) -> TaskFields | None:
        model: type[TaskFields] = module.Fields
        if runs:
            unset = self.strict.variable_problems(at)
            self.problems += unset
            found = read_fields(model, self.strict, at)
            if not isinstance(found, list):
                self._check(module, found, at)
                return found
            at_fault = {(problem.line, problem.column) for problem in unset}
            self.problems += [problem for problem in found if (problem.line, problem.column) not in at_fault]
            return None
        return self._fields_of_the_other_half(model, at)

    def _check(self, module: ModuleType, fields: TaskFields, at: Location) -> None:
        check: Callable[[TaskFields], Iterable[str | tuple[Location, str]]] | None = getattr(module, "check", None)
        if check is None:
            return
        try:
            for problem in check(fields):
                inner, message = _located(problem) if isinstance(problem, str) else problem
                self._add((*at, *inner), "BadValue", message, at_key=not inner)
        except OciSyncError as error:
            self._add(at, "BadValue", f"{error.cause} ({error.remedy})", at_key=True)

    def _fields_of_the_other_half(self, model: type[TaskFields], at: Location) -> TaskFields | None:
        values = self.lenient.expand(at)
        if isinstance(values, dict):
            asked_for = sorted(model.for_both_halves & values.keys())
            unset = [problem for name in asked_for for problem in self.strict.variable_problems((*at, name))]
            if unset:
                self.problems += unset
                return None
        found = read_fields(model, self.lenient, at, values)
        if isinstance(found, list) and isinstance(values, dict):
            # A field that waits for an undefined variable takes its default: nobody asks for it here.
            known = {name: value for name, value in values.items() if not has_variable(value)}
            found = read_fields(model, self.lenient, at, known)
        if isinstance(found, list):
            self.problems += found
            return None
        return found

    def _found(self, mistakes: Iterable[Mistake]) -> None:
        for one in mistakes:
            self._add(one.location, one.reason, one.message, at_key=one.at_key)

    def _add(self, at: Location, reason: str, message: str, *, at_key: bool = False) -> None:
        self.problems.append(self.strict.problem(at, reason, message, at_key=at_key))


def _find_tasks(document: Document) -> dict[str, ModuleType | ConfigError]:
    """The module of each word in the file, or why there is none; each looked for once."""
    found: dict[str, ModuleType | ConfigError] = {}
    for word, _ in _words(document):
        if word not in found:
            try:
                found[word] = find_task(word)
            except ConfigError as error:
                found[word] = error
    return found


def _words(document: Document) -> list[tuple[str, int]]:
    """The first word of each task with its line."""
    tasks = document.node(_TASKS).value
    nodes = tasks[:_MOST_TASKS] if isinstance(tasks, list) else []
    return [(next(iter(node.value)), node.line) for node in nodes if isinstance(node.value, dict) and node.value]


def _elsewhere(document: Document, found: Mapping[str, ModuleType | ConfigError]) -> dict[str, str]:
    """Fields of the flow and of the tasks in this file, each with the place where it belongs."""
    places = dict.fromkeys(FlowFields.model_fields, "`flow`")
    for word, line in _words(document):
        module = found[word]
        if isinstance(module, ConfigError):
            continue
        model: type[TaskFields] = module.Fields
        for inner, nested in nested_models(model).items():
            for name in field_names(nested):
                places.setdefault(name, f"`{inner}`")
        for name in set(field_names(model)) - set(TaskFields.model_fields):
            places.setdefault(name, f"`{word}` (line {line})")
    return places


def _located(problem: str) -> tuple[Location, str]:
    """The location that a message begins with, as in `routes[0].key: unknown nmae`, and the message."""
    place, colon, _ = problem.partition(": ")
    if not colon or not _PLACE.match(place):
        return (), problem
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"\w+", place)), problem


def _files(paths: Iterable[Path]) -> list[Path]:
    """Each file once. A directory that holds no flow file stands for itself, and is then refused when it is read."""
    files: dict[Path, None] = {}
    for path in paths:
        inside = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES) if _is_listable(path) else []
        files.update(dict.fromkeys(inside or [path]))
    return list(files)


def _is_listable(path: Path) -> bool:
    return os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK)


def _same_name(flow: Flow, first: Flow) -> ConfigProblems:
    message = f"flow {flow.name!r} is already defined by {first.path}, so they would share topic and offsets"
    return ConfigProblems(
        f"reading the flow file {flow.path}",
        [Problem(str(flow.path), 0, 0, "DuplicateName", message)],
        "give each flow a name of its own",
    )
