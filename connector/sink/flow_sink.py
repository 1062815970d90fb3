"""The sink half of a flow file as lines: which tasks stand between which buffer and which store.

Rules. (1) Each store that writes ends a chain; the tasks above it, up to the buffer, are that chain. (2) A store hands
on what it was given, so two stores in a row both get it. (3) A chain is `buffer, diff, store` with `operation: apply`,
or `buffer`, any number of `script` and `operation: list`, `store`. What is none of these is a ConfigError that names
the task.
"""

from collections.abc import Sequence
from typing import cast

from connector.config.flow_file import Flow, Task
from connector.config.variables import has_variable
from connector.errors import ConfigError
from connector.sink.chain import Chain, DiffChain, EventChain, Transform
from connector.sink.line import Line
from connector.sink.operation import Operation, StoreFields
from connector.sink.parts import Parts
from connector.sink.store import Store
from connector.sink.tasks import buffer, diff

_SOURCE = "oci_sync"


def build_lines(flow: Flow, parts: Parts) -> list[Line]:
    """One line for each store that writes, in the order of the flow; [] without a sink half. Touches no network.

    Raises ConfigError BadValue for a shape that is none, UnknownVariable where the artifact's name is not known.
    """
    _refuse_what_stores_cannot_follow(flow)
    ends = [task for task in flow.sink_tasks if _writes(task)]
    ways = [_way(flow, end) for end in ends]
    used = {task.name for way in ways for task in way}
    for task in flow.sink_tasks:
        if task.name not in used:
            raise _bad(task, "leads to no store that writes", "put a store after it, or take it out")
    return [_line(flow, way, parts) for way in ways]


def _refuse_what_stores_cannot_follow(flow: Flow) -> None:
    """Options of `oci_sync` whose records are no whole snapshot for a sink."""
    for task in flow.source_tasks if flow.sink_tasks else ():
        if getattr(task.fields, "oversize", None) == "reference":
            raise _bad(
                task,
                "sends references instead of large files, and a store would get empty values",
                "use `oversize: error` or `skip`, or give these readers a flow of their own",
            )
        if getattr(task.fields, "partitioner", None) == "key":
            raise _bad(
                task,
                "spreads a snapshot over partitions, so no member of the sink's group sees it whole",
                "use `partitioner: source`, or give these readers a flow of their own",
            )


def _line(flow: Flow, way: Sequence[Task], parts: Parts) -> Line:
    first, *middle, end = way
    if not isinstance(first.fields, buffer.Fields):
        raise _bad(first, "has no buffer above it", "put a `buffer` after `oci_sync`: only whole snapshots are applied")
    artifacts = frozenset(_artifact(task) for task in flow.upstream(first) if task.word == _SOURCE)
    return Line(_chain(flow, middle, end, parts), buffer.build(first.fields, parts), artifacts)


def _chain(flow: Flow, middle: Sequence[Task], end: Task, parts: Parts) -> Chain:
    last = _operation(end, parts)
    differs = [task for task in middle if isinstance(task.fields, diff.Fields)]
    if not differs:
        stages = [_stage(task, parts) for task in middle]
        return EventChain(end.name, flow.name, stages, last)
    if len(middle) > 1:
        other = next(task for task in middle if task is not differs[0])
        raise _bad(other, f"cannot stand in one chain with the diff {differs[0].name!r}", "a diff follows the buffer")
    if last.kind != "apply":
        raise _bad(end, f"has operation {last.kind!r} after a diff", "use `operation: apply`")
    fields = differs[0].fields
    assert isinstance(fields, diff.Fields)
    return DiffChain(end.name, diff.build(fields, parts), last.store)


def _stage(task: Task, parts: Parts) -> Transform | Operation:
    if isinstance(task.fields, StoreFields):
        return _operation(task, parts)
    if isinstance(task.fields, buffer.Fields):
        raise _bad(task, "follows another buffer", "one buffer is enough")
    return cast("Transform", task.module.build(task.fields, parts))  # a module found by name has no type


def _operation(task: Task, parts: Parts) -> Operation:
    assert isinstance(task.fields, StoreFields)
    return Operation(task.fields, cast("Store", task.module.build(task.fields, parts)))  # as above


def _way(flow: Flow, end: Task) -> list[Task]:
    """The tasks from the buffer to `end`; stores in between that write are passed over."""
    by_name = {task.name: task for task in flow.sink_tasks}
    way = [end]
    above = end
    while parents := [by_name[name] for name in above.depends_on if name in by_name]:
        if len(parents) > 1:
            names = ", ".join(repr(task.name) for task in parents)
            raise _bad(above, f"depends on {names}", "a task of the sink half follows one other")
        above = parents[0]
        if not _writes(above):
            way.insert(0, above)
    return way


def _writes(task: Task) -> bool:
    return isinstance(task.fields, StoreFields) and task.fields.operation != "list"


def _artifact(task: Task) -> str:
    artifact = str(getattr(task.fields, "artifact", ""))
    if has_variable(artifact):
        raise ConfigError(
            reason="UnknownVariable",
            doing=f"building the sink half below {task.name!r} at line {task.line}",
            cause="its artifact holds a variable that is not set, so its records cannot be told from others",
            remedy="set the variable for the sink half too; no access to the registry is needed (operator)",
        )
    return artifact


def _bad(task: Task, cause: str, remedy: str) -> ConfigError:
    return ConfigError(
        reason="BadValue",
        doing=f"building the sink half: {task.word} {task.name!r} at line {task.line}",
        cause=f"it {cause}",
        remedy=f"{remedy} (operator)",
    )
