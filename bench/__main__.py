"""`python -m bench [--quick] [--only NAME …]`: measure, print the table, leave with 0 whatever it says.

Exit code 1 means that something could not be measured, or that the two sides of a comparison did different work.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import arrival, growth, memory, pull, quiet, release, scale, sink, start
from bench.ground import Ground, machine, open_ground
from bench.plot import write_plot
from bench.result import Result, table

Measurement = Callable[[Ground, int], Iterator[Result]]

_RUNS, _QUICK_RUNS = 5, 3

FULL: dict[str, Measurement] = {
    "start": start.first_head,
    "small": pull.small_layers,
    "far": pull.far_layers,
    "large": pull.large_layers,
    "hostile": memory.hostile_pulls,
    "release": release.small_release,
    "quiet": lambda ground, runs: quiet.quiet_ticks(ground, beats=4),
    "sink": sink.nats_writes,
    "arrival": arrival.push_to_store,
    "fleet": lambda ground, runs: scale.fleet(ground, sources=2_000, files=50),
    "sources": lambda ground, runs: quiet.growth(ground, (10, 100), beats=4),
    "files": lambda ground, runs: growth.by_files(ground, (10, 100, 1_000, 10_000)),
    "sizes": lambda ground, runs: growth.by_size(ground, (1_000, 100_000, 1_000_000, 10_000_000)),
}
QUICK: dict[str, Measurement] = {
    "start": start.first_head,
    "small": pull.small_layers,
    "large": pull.large_layers,
    "release": lambda ground, runs: release.small_release(ground, runs, layers=300),
    "quiet": lambda ground, runs: quiet.quiet_ticks(ground, beats=3, sources=100, seconds_a_beat=2),
    "sink": lambda ground, runs: sink.nats_writes(ground, runs, files=300),
    "arrival": lambda ground, runs: arrival.push_to_store(ground, runs, files=300),
}
# Only by name: five minutes of its own, most of them the 5,000 first pulls.
EXTRA: dict[str, Measurement] = {"many": lambda ground, runs: quiet.growth(ground, (5_000,), beats=2)}


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller, in under two minutes")
    parser.add_argument("--only", nargs="+", choices=sorted(FULL | EXTRA), help="some of the measurements")
    parser.add_argument("--runs", type=int, help=f"pairs of each (default {_RUNS}, with --quick {_QUICK_RUNS})")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw how cost grows into this file")
    options = parser.parse_args()
    measurements = QUICK if options.quick else FULL | EXTRA
    wanted = options.only or (QUICK if options.quick else FULL)
    runs = options.runs or (_QUICK_RUNS if options.quick else _RUNS)
    _say(machine())
    results: list[Result] = []
    started = time.monotonic()
    with open_ground() as ground:
        ground.warm_up()
        for name, measure in measurements.items():
            if name not in wanted:
                continue
            for result in measure(ground, runs):
                results.append(result)
                _say(f"[{time.monotonic() - started:4.0f} s] {result}")
    if options.plot is not None:
        points = [point for result in results for point in result.points]
        write_plot(options.plot, sorted(points, key=lambda point: (point.series, point.x)))
    sys.stdout.write(f"\n{machine()}; {runs} runs of each pair\n\n{table(results)}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
