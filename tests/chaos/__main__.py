"""`python -m tests.chaos [--seed N] [--kills N] [--only TEXT] [--lanes N]`: every fault, one table; 1 if one broke.

Each lane runs its faults one after the other on a broker of its own or a shared one; several lanes run at once. The
seed decides what is pushed, where workers die and when; what the machine's scheduler does is not repeatable, so a seed
makes a run similar, not equal.
"""

import argparse
import logging
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.checker import Violation
from tests.chaos.lanes import Stage, lanes
from tests.chaos.machine import CannotInject
from tests.chaos.report import Row, table

Lane = Callable[[Stage], Iterator[Row]]


def main() -> int:
    """Run what was asked for and print the table."""
    asked = _arguments()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="oci-sync-chaos-"))
    print(f"seed {asked.seed}, {asked.kills} kills; logs under {folder}", flush=True)
    chosen = [(name, lane) for name, lane in lanes(asked.kills) if asked.only in name]
    started = time.monotonic()
    rows: list[Row] = []
    with ExitStack() as ends:
        stage = Stage(folder, ends)
        with ThreadPoolExecutor(asked.lanes) as pool:
            running = [
                pool.submit(_run, stage, name, lane, random.Random(f"{asked.seed}/{name}")) for name, lane in chosen
            ]
            for done in as_completed(running):
                rows += done.result()
    print(f"\nseed {asked.seed}, {time.monotonic() - started:.0f} s\n\n{table(rows)}")
    broken = [row for row in rows if row.violations]
    for row in broken:
        print(f"\n{row.fault}:")
        for violation in row.violations:
            print(f"  {violation.promise} {violation.how}")
    if not broken:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if broken else 0


def _run(stage: Stage, name: str, lane: Lane, rng: random.Random) -> Sequence[Row]:
    rows: list[Row] = []
    try:
        for row in lane(stage.of(name, rng)):
            rows.append(row)
            print(f"{time.strftime('%H:%M:%S')} {row.fault}: {row.times} times, {row.verdict}", flush=True)
    except CannotInject as reason:
        rows.append(Row(name, 0, 0, 0, 0, 0.0, note=f"not injected: {reason}"))
    except (TimeoutError, RuntimeError, AssertionError, OSError, subprocess.SubprocessError) as error:
        rows.append(Row(name, 0, 0, 0, 0, 0.0, (Violation("run", f"{type(error).__name__}: {error}"),)))
        print(f"{time.strftime('%H:%M:%S')} {name}: {error}", flush=True)
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Every fault, one table.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--kills", type=int, default=100, help="workers to kill, over all kinds of membership")
    parser.add_argument("--only", default="", help="lanes whose name holds this text")
    parser.add_argument("--lanes", type=int, default=4, help="lanes at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
