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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import Field

from connector.config.fields import Source, field_names, nested_models, read_fields
from connector.config.problem import ConfigProblems, Problem, did_you_mean, shown
from connector.config.task import Half, Strict, TaskFields, find_task, half_of
from connector.config.variables import Variables, has_variable
from connector.config.yaml_lines import Document, Location, read_yaml
from connector.errors import ConfigError, OciSyncError

# `oci.<flow name>` must fit a topic's name, which has at most 249 characters.
_LONGEST_NAME: Final = 200
_SUFFIXES: Final = (".yaml", ".yml")
_TRIGGER: Final = "generate"
_SOURCE: Final = "oci_sync"
_TASKS: Final[Location] = ("flow", "tasks")


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a flow. `depends_on` holds what it really depends on, the implicit dependency included."""

    word: str
    name: str
    half: Half
    fields: TaskFields
    depends_on: tuple[str, ...]
    module: ModuleType
    line: int

    def __repr__(self) -> str:
        return f"<Task {self.word} {self.name} of the {self.half} half, line {self.line}>"


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow file that is right in itself. `tasks` stand in order of dependence, else in the order of the file."""

    name: str
    path: Path
    tasks: tuple[Task, ...]

    @property
    def source_tasks(self) -> tuple[Task, ...]:
        """`generate` and `oci_sync` tasks; at least one of each."""
        return tuple(task for task in self.tasks if task.half == "source")

    @property
    def sink_tasks(self) -> tuple[Task, ...]:
        """What follows; empty where the flow only feeds the topic."""
        return tuple(task for task in self.tasks if task.half == "sink")

    def upstream(self, task: Task) -> tuple[Task, ...]:
        """Every task that this one depends on, directly or through others, in order of dependence."""
        above = set(task.depends_on)
        for earlier in reversed(self.tasks):
            if earlier.name in above:
                above.update(earlier.depends_on)
        return tuple(earlier for earlier in self.tasks if earlier.name in above)


class FlowFields(Strict):
    """What stands under `flow:`."""

    name: str = Field(
        min_length=1,
        max_length=_LONGEST_NAME,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Flow name; part of the topic's name and of the key of the source offset.",
    )
    tasks: list[Any] = Field(min_length=1, description="The tasks, each a mapping of its word to its fields.")


class _FlowFile(Strict):
    flow: FlowFields


@dataclass(frozen=True, slots=True)
class LoadedFlows:
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
        self.strict = Source(document, strict)
        self.lenient = Source(document, lenient)
        self.problems: list[Problem] = []

    def read(self, path: Path) -> Flow | None:
        head = self._head()
        if head is None:
            return None
        drafts = [task for index in range(len(head.tasks)) if (task := self._task(index)) is not None]
        if self.problems:
            # What follows asks how the tasks hang together, and a task that could not be read would be missed there.
            self._duplicates(drafts)
            return None
        self._duplicates(drafts)
        tasks = self._order(drafts)
        self._shape(tasks)
        return Flow(head.name, path, tuple(task for _, task in tasks))

    def _head(self) -> FlowFields | None:
        if not isinstance(self.document.root.value, dict):
            what = "is empty" if self.document.root.value is None else "holds no mapping"
            self._add((), "BadValue", f"the file {what}; a flow file begins with `flow:`")
            return None
        outer = {key: None for key in self.document.root.value if not key.startswith("x-")}
        self.problems += self._variables(("flow", "name"))
        values = self.document.plain()
        if isinstance(values.get("flow"), dict) and isinstance(values["flow"].get("name"), str):
            values["flow"]["name"] = self.strict.variables.expand(values["flow"]["name"])
        source = Source(self.document, self.strict.variables, self._elsewhere())
        found = read_fields(_FlowFile, source, (), {key: values[key] for key in outer})
        if isinstance(found, list):
            self.problems += found
            flow = self.document.node(("flow",)).child("tasks")
            for index in range(len(flow.value)) if flow is not None and isinstance(flow.value, list) else ():
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
        try:
            module = find_task(word)
        except ConfigError as error:
            self._add((*at, word), error.reason, error.cause, at_key=True)
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
            source = Source(self.document, self.strict.variables, self._elsewhere())
            unset = self._variables(at)
            self.problems += unset
            found = read_fields(model, source, at)
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
                inner, message = ((), problem) if isinstance(problem, str) else problem
                self._add((*at, *inner), "BadValue", message, at_key=not inner)
        except OciSyncError as error:
            self._add(at, "BadValue", f"{error.cause} ({error.remedy})", at_key=True)

    def _fields_of_the_other_half(self, model: type[TaskFields], at: Location) -> TaskFields | None:
        source = Source(self.document, self.lenient.variables, self._elsewhere())
        values = source.expand(at)
        found = read_fields(model, source, at, values)
        if isinstance(found, list) and isinstance(values, dict):
            # A field that waits for an undefined variable takes its default: nobody will ask for it here.
            known = {name: value for name, value in values.items() if not has_variable(value)}
            found = read_fields(model, source, at, known)
        if isinstance(found, list):
            self.problems += found
            return None
        return found

    def _duplicates(self, drafts: Sequence[tuple[Location, Task]]) -> None:
        names: dict[str, Task] = {}
        artifacts: dict[str, Task] = {}
        for at, task in drafts:
            if (first := names.setdefault(task.name, task)) is not task:
                message = f"two tasks are called {task.name!r}; the other is at line {first.line}"
                self._add((*at, "name"), "DuplicateName", message)
            artifact = getattr(task.fields, "artifact", None) if task.word == _SOURCE else None
            if artifact is not None and (first := artifacts.setdefault(artifact, task)) is not task:
                message = (
                    f"{first.name!r} at line {first.line} follows the same artifact, so they would share an offset"
                )
                self._add((*at, "artifact"), "DuplicateArtifact", message)

    def _order(self, drafts: Sequence[tuple[Location, Task]]) -> list[tuple[Location, Task]]:
        tasks: dict[str, tuple[Location, Task]] = {}
        above: str | None = None
        for at, task in drafts:
            depends_on = task.depends_on or ((above,) if above and task.word != _TRIGGER else ())
            tasks[task.name] = (at, _depending(task, depends_on))
            above = task.name
        for at, task in tasks.values():
            self._known_dependencies(at, task, list(tasks))
        if self.problems:
            return list(tasks.values())
        sorter = TopologicalSorter({name: task.depends_on for name, (_, task) in tasks.items()})
        try:
            sorter.prepare()
        except CycleError as error:
            circle = [str(name) for name in error.args[1]][::-1]
            at, _ = tasks[circle[0]]
            self._add((*at, "depends_on"), "Cycle", f"tasks depend on each other in a circle: {' -> '.join(circle)}")
            return list(tasks.values())
        ordered: list[tuple[Location, Task]] = []
        place = {name: number for number, name in enumerate(tasks)}
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=place.__getitem__)
            ordered += [tasks[name] for name in ready]
            sorter.done(*ready)
        return ordered

    def _known_dependencies(self, at: Location, task: Task, names: Sequence[str]) -> None:
        for name in task.fields.depends_on:
            if name not in names:
                message = f"{task.name!r} depends on {shown(name)}, which no task is called"
                self._add(
                    (*at, "depends_on"), "BadValue", message + did_you_mean(name, set(names) - {task.name}, "tasks:")
                )
        if task.word == _TRIGGER and task.fields.depends_on:
            self._add((*at, "depends_on"), "BadValue", f"`{_TRIGGER}` starts a chain and depends on nothing")

    def _shape(self, tasks: Sequence[tuple[Location, Task]]) -> None:
        if self.problems:
            return
        flow = Flow("", Path(), tuple(task for _, task in tasks))
        if not any(task.word == _SOURCE for task in flow.tasks):
            self._add(_TASKS, "MissingField", f"a flow needs an `{_SOURCE}` task", at_key=True)
            return
        for at, task in tasks:
            above = flow.upstream(task)
            if task.half == "source":
                for other in above:
                    if other.half == "sink":
                        message = f"`{task.word}` cannot follow `{other.word}` {other.name!r}: the topic lies between"
                        self._add(at, "BadValue", message, at_key=True)
            elif not any(other.word == _SOURCE for other in above):
                self._add(at, "BadValue", f"{task.name!r} follows no `{_SOURCE}` task", at_key=True)
            if task.word == _SOURCE and not any(other.word == _TRIGGER for other in above):
                message = f"nothing ticks {task.name!r}: put a `{_TRIGGER}` task above it, or name one in `depends_on`"
                self._add(at, "BadValue", message, at_key=True)

    def _variables(self, at: Location) -> list[Problem]:
        return self.strict.variable_problems(at)

    def _elsewhere(self) -> dict[str, str]:
        """Fields of the flow and of the tasks in this file, each with the place where it belongs."""
        places = dict.fromkeys(FlowFields.model_fields, "`flow`")
        tasks = self.document.node(_TASKS).value
        for node in tasks if isinstance(tasks, list) else ():
            word = next(iter(node.value), "") if isinstance(node.value, dict) else ""
            try:
                model = find_task(word).Fields
            except ConfigError:
                continue
            for inner, nested in nested_models(model).items():
                for name in field_names(nested):
                    places.setdefault(name, f"`{inner}`")
            for name in set(field_names(model)) - set(TaskFields.model_fields):
                places.setdefault(name, f"`{word}` (line {node.line})")
        return places

    def _add(self, at: Location, reason: str, message: str, *, at_key: bool = False) -> None:
        self.problems.append(self.strict.problem(at, reason, message, at_key=at_key))


def _depending(task: Task, depends_on: tuple[str, ...]) -> Task:
    return Task(task.word, task.name, task.half, task.fields, depends_on, task.module, task.line)


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
