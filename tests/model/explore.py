"""A small explicit-state model checker: every reachable world, breadth first, with the shortest way to harm."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.model.protocol import Rules, World, broken, is_settled, steps

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Explored:
    """What was found. `harm` is the promise that broke and `way` how; `stuck` worlds can never settle again."""

    worlds: int
    events: int
    harm: str
    way: tuple[str, ...]
    stuck: int


def explore(rules: Rules, *, looking_for: str = "", limit: int = 2_000_000) -> Explored:
    """All worlds that can be reached; ends at the first harm, which is then the shortest way to any.

    With `looking_for`, only a harm with this text in it ends the search; beyond another harm it does not look. Raises
    RuntimeError beyond `limit` worlds: then the model is not the finite one it claims to be.
    """
    first = World()
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    back: dict[World, list[World]] = {}
    queue, events = deque([first]), 0
    while queue:
        world = queue.popleft()
        if harm := broken(world):
            if looking_for in harm:
                return Explored(len(came_from), events, harm, _way(came_from, world), 0)
            if world.harm:
                continue
        for name, after in steps(world, rules):
            events += 1
            back.setdefault(after, []).append(world)
            if after not in came_from:
                came_from[after] = (world, name)
                queue.append(after)
                if len(came_from) > limit:
                    raise RuntimeError(f"more than {limit} worlds")
    reach = _backwards(back, (world for world in came_from if is_settled(world)))
    return Explored(len(came_from), events, "", (), len(came_from) - len(reach))


def _way(came_from: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    names: list[str] = []
    while (step := came_from[world]) is not None:
        world, name = step
        names.append(name)
    return tuple(reversed(names))


def _backwards(back: dict[World, list[World]], goals: Iterable[World]) -> set[World]:
    reach = set(goals)
    queue = deque(reach)
    while queue:
        for before in back.get(queue.popleft(), ()):
            if before not in reach:
                reach.add(before)
                queue.append(before)
    return reach


def told(way: Sequence[str]) -> str:
    """A way as numbered lines."""
    return "\n".join(f"{number:2}. {name}" for number, name in enumerate(way, start=1))
