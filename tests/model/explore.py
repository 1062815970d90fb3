"""A small explicit-state model checker: every reachable world, breadth first, with the shortest way to harm."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.model.protocol import Rules, World, broken, is_settled, steps


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
    numbers: dict[World, int] = {World(): 0}
    came_from: list[tuple[int, str]] = [(0, "")]
    before: list[list[int]] = [[]]
    settled: list[int] = []
    queue, events = deque([(World(), 0)]), 0
    while queue:
        world, number = queue.popleft()
        if harm := broken(world):
            if looking_for in harm:
                return Explored(len(numbers), events, harm, _way(came_from, number), 0)
            if world.harm:
                continue
        if is_settled(world):
            settled.append(number)
        for name, after in steps(world, rules):
            events += 1
            known = numbers.setdefault(after, len(numbers))
            if known == len(came_from):
                came_from.append((number, name))
                before.append([])
                queue.append((after, known))
                if known > limit:
                    raise RuntimeError(f"more than {limit} worlds")
            before[known].append(number)
    return Explored(len(numbers), events, "", (), len(numbers) - len(_backwards(before, settled)))


def _way(came_from: Sequence[tuple[int, str]], number: int) -> tuple[str, ...]:
    names: list[str] = []
    while number:
        number, name = came_from[number]
        names.append(name)
    return tuple(reversed(names))


def _backwards(before: Sequence[Sequence[int]], goals: Iterable[int]) -> set[int]:
    reach = set(goals)
    queue = deque(reach)
    while queue:
        for number in before[queue.popleft()]:
            if number not in reach:
                reach.add(number)
                queue.append(number)
    return reach


def told(way: Sequence[str]) -> str:
    """A way as numbered lines."""
    return "\n".join(f"{number:2}. {name}" for number, name in enumerate(way, start=1))
