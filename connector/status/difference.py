"""Whether all live workers carry the same flows, in words. Pure."""

from collections.abc import Iterable, Mapping


def describe_difference(flows_by_worker: Mapping[str, Iterable[str]]) -> str:
    """Which worker lacks which flow that another carries, in words; '' where all carry the same."""
    carried = {worker: frozenset(flows) for worker, flows in flows_by_worker.items()}
    every = frozenset().union(*carried.values())
    lacking = [
        f"{worker} lacks {', '.join(sorted(every - flows))}" for worker, flows in carried.items() if every - flows
    ]
    return "; ".join(sorted(lacking))
