"""A whole pull, process start to exit with records committed, beside `oras pull` and `regctl artifact get`.

The floor of a pull is `oras pull` to tmpfs plus a bare librdkafka transaction of the same bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.flow import BenchFlow
from bench.ground import Cost, Ground, text_files
from bench.records import bare_transaction, check_equal, files_in_topic, files_on_disk
from bench.result import Pair, Result, ratio, spread

ROUND_TRIP_MS = 20


@dataclass(frozen=True, slots=True)
class Round:
    """One pull by each side."""

    ours: Cost
    oras: Cost
    regctl: Cost
    transaction: float

    @property
    def floor(self) -> float:
        """Seconds that the work itself takes."""
        return self.oras.seconds + self.transaction


def small_layers(ground: Ground, runs: int, *, layers: int = 1000, far: bool = True) -> Iterator[Result]:
    """1,000 layers of 4 KB, on loopback and then with a round trip of 20 ms."""
    folder = ground.new_folder("small")
    text_files(folder, layers, 4096)
    reference = ground.push(ground.fresh("bench/small"), folder)

    bare_topic = BenchFlow(ground, [reference]).topic
    rounds = [_round(ground, reference, folder, bare_topic) for _ in range(runs)]
    yield _against_floor(f"cold pull of {layers:,} layers of 4 KB", rounds, bar=1.2, towards=1.0)
    yield from _cost(rounds)

    if not far:
        return
    distant = reference.replace(ground.registry.host, ground.far_registry(ROUND_TRIP_MS))
    rounds = [_round(ground, distant, folder, bare_topic) for _ in range(runs)]
    yield Result(
        f"the same with {ROUND_TRIP_MS} ms of round trip, against `oras pull` alone",
        ratio(Pair(one.ours.seconds, one.oras.seconds) for one in rounds), "×", 0.5, 0.3,
        f"ours {spread([one.ours.seconds for one in rounds])} s, oras {spread([one.oras.seconds for one in rounds])} s, "
        f"regctl {spread([one.regctl.seconds for one in rounds])} s",
    )  # fmt: skip


def large_layers(ground: Ground, runs: int) -> Iterator[Result]:
    """100 MB in 10 layers: the most that the default limits let through."""
    folder = ground.new_folder("large")
    text_files(folder, 10, 10_000_000)
    reference = ground.push(ground.fresh("bench/large"), folder)
    bare_topic = BenchFlow(ground, [reference]).topic
    rounds = [_round(ground, reference, folder, bare_topic) for _ in range(runs)]
    yield _against_floor("100 MB in 10 layers", rounds, bar=2.0, towards=1.3)
    yield Result(
        "peak memory of the 100 MB pull", max(one.ours.peak_mb for one in rounds), "MB", 200, 120,
        f"oras {max(one.oras.peak_mb for one in rounds):.0f} MB, regctl {max(one.regctl.peak_mb for one in rounds):.0f} MB",
    )  # fmt: skip
    yield Result("CPU of the 100 MB pull", median(one.ours.cpu_seconds for one in rounds), "s")


def _round(ground: Ground, reference: str, files: Path, bare_topic: str) -> Round:
    flow = BenchFlow(ground, [reference])
    by_oras, by_regctl = ground.new_folder("oras"), ground.new_folder("regctl")
    oras = ground.run(ground.oras.binary, "pull", "--plain-http", "--no-tty", reference, "-o", by_oras)
    ours = flow.pull()
    regctl = ground.run(
        ground.regctl, "--host", f"reg={reference.partition('/')[0]},tls=disabled", "artifact", "get", reference,
        "-o", by_regctl,
    )  # fmt: skip
    transaction = bare_transaction(ground.broker.bootstrap, bare_topic, files)
    in_topic = files_in_topic(ground.broker.bootstrap, flow.topic)
    check_equal(in_topic, files_on_disk(by_oras), "oras")
    check_equal(in_topic, files_on_disk(by_regctl), "regctl")
    ground.forget(flow.folder, by_oras, by_regctl)
    return Round(ours, oras, regctl, transaction)


def _against_floor(what: str, rounds: list[Round], bar: float, towards: float) -> Result:
    return Result(
        what, ratio(Pair(one.ours.seconds, one.floor) for one in rounds), "×", bar, towards,
        f"ours {spread([one.ours.seconds for one in rounds])} s, oras {spread([one.oras.seconds for one in rounds])} s "
        f"+ transaction {spread([one.transaction for one in rounds], 3)} s, "
        f"regctl {spread([one.regctl.seconds for one in rounds])} s",
    )  # fmt: skip


def _cost(rounds: list[Round]) -> Iterator[Result]:
    yield Result(
        "CPU of that pull", median(one.ours.cpu_seconds for one in rounds), "s",
        detail=f"oras {median(one.oras.cpu_seconds for one in rounds):.2f} s, "
        f"regctl {median(one.regctl.cpu_seconds for one in rounds):.2f} s",
    )  # fmt: skip
    yield Result(
        "peak memory of that pull", max(one.ours.peak_mb for one in rounds), "MB",
        detail=f"oras {max(one.oras.peak_mb for one in rounds):.0f} MB, "
        f"regctl {max(one.regctl.peak_mb for one in rounds):.0f} MB",
    )  # fmt: skip
