"""How the tasks of a flow hang together: names, dependences, and the cut at `oci_sync`. Pure."""

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from connector.config.flow import Task, upstream
from connector.config.problem import did_you_mean, shown
from connector.config.yaml_lines import Location

TRIGGER: Final = "generate"
SOURCE: Final = "oci_sync"

Draft: TypeAlias = tuple[Location, Task]  # a task, and where its fields stand in the file


class Mistake(Struct, frozen=True):
    """A problem at a location of the document. `reason` is one of ConfigError's words."""

    location: Location
    reason: str
    message: str
    at_key: bool = False


def doubles(drafts: Sequence[Draft]) -> Iterator[Mistake]:
    """Tasks of one name, and sources of one artifact: those would share an offset."""
    names: dict[str, Task] = {}
    artifacts: dict[str, Task] = {}
    for at, task in drafts:
        if (first := names.setdefault(task.name, task)) is not task:
            message = f"two tasks are called {task.name!r}; the other is at line {first.line}"
            yield Mistake((*at, "name"), "DuplicateName", message)
        artifact = getattr(task.fields, "artifact", None) if task.word == SOURCE else None
        if artifact is not None and (first := artifacts.setdefault(artifact, task)) is not task:
            message = f"{first.name!r} at line {first.line} follows the same artifact, so they would share an offset"
            yield Mistake((*at, "artifact"), "DuplicateArtifact", message)


def with_dependences(drafts: Sequence[Draft]) -> list[Draft]:
    """The tasks with the implicit dependence on the one above filled in; `generate` starts a chain and has none."""
    filled: list[Draft] = []
    for at, task in drafts:
        implicit = (filled[-1][1].name,) if filled and task.word != TRIGGER else ()
        filled.append((at, replace(task, depends_on=task.depends_on or implicit)))
    return filled


def wrong_dependences(drafts: Sequence[Draft]) -> Iterator[Mistake]:
    """Names in `depends_on` that no task has, and a `generate` that depends on something."""
    names = {task.name for _, task in drafts}
    for at, task in drafts:
        place = (*at, "depends_on")
        for name in sorted(set(task.depends_on) - names):
            message = f"{task.name!r} depends on {shown(name)}, which no task is called"
            yield Mistake(place, "BadValue", message + did_you_mean(name, names - {task.name}, "tasks:"))
        if task.word == TRIGGER and task.depends_on:
            yield Mistake(place, "BadValue", f"`{TRIGGER}` starts a chain and depends on nothing")


def in_order(drafts: Sequence[Draft]) -> list[Draft] | Mistake:
    """The tasks in order of dependence, of equals the one that stands first in the file; or the circle they form."""
    tasks = {task.name: (at, task) for at, task in drafts}
    place = {name: number for number, name in enumerate(tasks)}
    sorter = TopologicalSorter({name: task.depends_on for name, (_, task) in tasks.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        circle = [str(name) for name in error.args[1]][::-1]
        at, _ = tasks[circle[0]]
        return Mistake((*at, "depends_on"), "Cycle", f"tasks depend on each other in a circle: {' -> '.join(circle)}")
    ordered: list[Draft] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        ordered += [tasks[name] for name in ready]
        sorter.done(*ready)
    return ordered


def wrong_shape(ordered: Sequence[Draft], whole: Location) -> Iterator[Mistake]:
    """What is not `generate`, then `oci_sync`, then the sink half. `whole` is the location of all tasks."""
    tasks = tuple(task for _, task in ordered)
    if not any(task.word == SOURCE for task in tasks):
        yield Mistake(whole, "MissingField", f"a flow needs an `{SOURCE}` task", at_key=True)
        return
    for at, task in ordered:
        above = upstream(tasks, task)
        words = {other.word for other in above}
        if task.half == "sink" and SOURCE not in words:
            yield Mistake(at, "BadValue", f"{task.name!r} follows no `{SOURCE}` task", at_key=True)
        if task.word == SOURCE and TRIGGER not in words:
            message = f"nothing ticks {task.name!r}: put a `{TRIGGER}` task above it, or name one in `depends_on`"
            yield Mistake(at, "BadValue", message, at_key=True)
        for other in above:
            if task.half == "source" and other.half == "sink":
                message = f"`{task.word}` cannot follow `{other.word}` {other.name!r}: the topic lies between"
                yield Mistake(at, "BadValue", message, at_key=True)
