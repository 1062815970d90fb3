"""A flow and its tasks, once they are read."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from msgspec import Struct

from connector.config.task import Half, TaskFields


class Task(Struct, frozen=True):
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


class Flow(Struct, frozen=True):
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
        return upstream(self.tasks, task)


def with_sinks(flows: Iterable[Flow]) -> tuple[Flow, ...]:
    """The flows that do more than feed their topic."""
    return tuple(flow for flow in flows if flow.sink_tasks)


def upstream(ordered: tuple[Task, ...], task: Task) -> tuple[Task, ...]:
    """The tasks above one, out of tasks in order of dependence."""
    above = set(task.depends_on)
    for earlier in reversed(ordered):
        if earlier.name in above:
            above.update(earlier.depends_on)
    return tuple(earlier for earlier in ordered if earlier.name in above)
