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


def small_layers(ground: Ground, runs: int, *, layers: int = 1000) -> Iterator[Result]:
    """1,000 layers of 4 KB, on loopback."""
    folder, reference, bare_topic = _published(ground, "small", layers, 4096)
    rounds = [_round(ground, reference, folder, bare_topic) for _ in range(runs)]
    yield _against_floor(f"cold pull of {layers:,} layers of 4 KB", rounds, bar=1.2, towards=1.0)
    ours, oras, regctl = _cpu(rounds)
    yield Result("the same: CPU", ours, "s", detail=f"oras {oras:.2f} s, regctl {regctl:.2f} s")
    ours, oras, regctl = _peak(rounds)
    yield Result("the same: peak memory", ours, "MB", detail=f"oras {oras:.0f} MB, regctl {regctl:.0f} MB")


def far_layers(ground: Ground, runs: int, *, layers: int = 1000) -> Iterator[Result]:
    """1,000 layers of 4 KB at 20 ms of round trip. regctl fetches one after the other, so it is asked once only."""
    _, near, _ = _published(ground, "far", layers, 4096)
    reference = near.replace(ground.registry.host, ground.far_registry(ROUND_TRIP_MS))
    host = reference.partition("/")[0]
    pairs: list[Pair] = []
    wider: list[float] = []
    regctl, by_regctl = _regctl(ground, reference)
    ground.forget(by_regctl)
    for _ in range(runs):
        theirs, by_oras = _oras(ground, reference)
        flow = BenchFlow(ground, [reference])
        pairs.append(Pair(flow.pull().seconds, theirs.seconds))
        check_equal(files_in_topic(ground.broker.bootstrap, flow.topic), files_on_disk(by_oras), "oras")
        wide = BenchFlow(ground, [reference], worker={"registries": {host: {"concurrency": 16}}})
        wider.append(wide.pull().seconds)
        ground.forget(flow.folder, wide.folder, by_oras)
    yield Result(
        f"the same with {ROUND_TRIP_MS} ms of round trip, against `oras pull` alone", ratio(pairs), "×", 0.5, 0.3,
        f"ours {spread([pair.ours for pair in pairs])} s, with `concurrency: 16` {spread(wider)} s, "
        f"oras {spread([pair.theirs for pair in pairs])} s, regctl {regctl.seconds:.1f} s",
    )  # fmt: skip


def large_layers(ground: Ground, runs: int) -> Iterator[Result]:
    """100 MB in 10 layers: the most that the default limits let through."""
    folder, reference, bare_topic = _published(ground, "large", 10, 10_000_000)
    rounds = [_round(ground, reference, folder, bare_topic) for _ in range(runs)]
    yield _against_floor("100 MB in 10 layers", rounds, bar=2.0, towards=1.3)
    ours, oras, regctl = _peak(rounds)
    yield Result(
        "the same: peak memory", ours, "MB", 200, 120, f"oras {oras:.0f} MB, regctl {regctl:.0f} MB"
    )  # fmt: skip
    ours, oras, regctl = _cpu(rounds)
    yield Result("the same: CPU", ours, "s", detail=f"oras {oras:.2f} s, regctl {regctl:.2f} s")


def _published(ground: Ground, name: str, layers: int, size_bytes: int) -> tuple[Path, str, str]:
    """The files, the reference, and a topic like the product's own for the bare transaction."""
    folder = ground.new_folder(name)
    text_files(folder, layers, size_bytes)
    reference = ground.push(ground.fresh(f"bench/{name}"), folder)
    return folder, reference, BenchFlow(ground, [reference]).topic


def _round(ground: Ground, reference: str, files: Path, bare_topic: str) -> Round:
    oras, by_oras = _oras(ground, reference)
    flow = BenchFlow(ground, [reference])
    ours = flow.pull()
    regctl, by_regctl = _regctl(ground, reference)
    transaction = bare_transaction(ground.broker.bootstrap, bare_topic, files)
    in_topic = files_in_topic(ground.broker.bootstrap, flow.topic)
    check_equal(in_topic, files_on_disk(by_oras), "oras")
    check_equal(in_topic, files_on_disk(by_regctl), "regctl")
    ground.forget(flow.folder, by_oras, by_regctl)
    return Round(ours, oras, regctl, transaction)


def _oras(ground: Ground, reference: str) -> tuple[Cost, Path]:
    folder = ground.new_folder("oras")
    return ground.run(ground.oras.binary, "pull", "--plain-http", "--no-tty", reference, "-o", folder), folder


def _regctl(ground: Ground, reference: str) -> tuple[Cost, Path]:
    folder = ground.new_folder("regctl")
    host = f"reg={reference.partition('/')[0]},tls=disabled"
    return ground.run(ground.regctl, "--host", host, "artifact", "get", reference, "-o", folder), folder


def _against_floor(what: str, rounds: list[Round], bar: float, towards: float) -> Result:
    return Result(
        what, ratio(Pair(one.ours.seconds, one.floor) for one in rounds), "×", bar, towards,
        f"ours {spread([one.ours.seconds for one in rounds])} s, oras {spread([one.oras.seconds for one in rounds])} s "
        f"+ transaction {spread([one.transaction for one in rounds], 3)} s, "
        f"regctl {spread([one.regctl.seconds for one in rounds])} s",
    )  # fmt: skip


def _cpu(rounds: list[Round]) -> tuple[float, float, float]:
    """Median CPU seconds of ours, oras and regctl."""
    return (
        median(one.ours.cpu_seconds for one in rounds),
        median(one.oras.cpu_seconds for one in rounds),
        median(one.regctl.cpu_seconds for one in rounds),
    )


def _peak(rounds: list[Round]) -> tuple[float, float, float]:
    """The largest peak memory of ours, oras and regctl."""
    return (
        max(one.ours.peak_mb for one in rounds),
        max(one.oras.peak_mb for one in rounds),
        max(one.regctl.peak_mb for one in rounds),
    )
