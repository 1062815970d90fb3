"""What every measurement stands on: servers on tmpfs, the peers' binaries, and a way to run and measure a process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.chaos.network import Proxies
from tests.system import servers
from tests.system.servers import Broker, Nats, Oras, Registry
from tools.stack.cache import go_tools
from tools.stack.pins import ROOT

_TMPFS = Path("/dev/shm")
# JVM, registry and 100 MB of layers in three copies.
_LEAST_TMPFS_BYTES = 2 << 30


class MeasuredFailed(Exception):
    """A measured process ended with an error; what it said is part of the message."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took, from its start to its end."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass
class Ground:
    """Servers, folders and names. `folder` is on tmpfs and goes with the run."""

    folder: Path
    broker: Broker
    registry: Registry
    oras: Oras
    regctl: Path
    ends: ExitStack
    spawner: "subprocess.Popen[str]"
    _numbers: Iterator[int] = field(default_factory=count)
    _nats: Nats | None = None
    _far: str = ""

    @property
    def nats(self) -> Nats:
        """A NATS server, started when it is first asked for."""
        if self._nats is None:
            self._nats = servers.start_nats(self.folder / "nats", self.ends)
        return self._nats

    def far_registry(self, milliseconds: int) -> str:
        """host:port of the same registry with so much round trip; connecting itself is not delayed."""
        if not self._far:
            proxies = self.ends.enter_context(Proxies(self.folder / "toxiproxy"))
            link = proxies.link(int(self.registry.host.rpartition(":")[2]))
            link.delay(milliseconds // 2, stream="upstream")
            link.delay(milliseconds - milliseconds // 2, stream="downstream")
            self._far = link.address
        return self._far

    def warm_up(self) -> None:
        """Compile the product's modules, as an installation does, so that the first run is like the others."""
        self.run(sys.executable, "-m", "compileall", "-q", "connector")
        for module in ("connector.cli.run", "connector.cli.topics", "nats"):
            self.run(sys.executable, "-c", f"import {module}")

    def fresh(self, name: str) -> str:
        """A name that nothing in this run has had."""
        return f"{name}-{next(self._numbers)}"

    def new_folder(self, name: str) -> Path:
        """An empty folder on tmpfs."""
        path = self.folder / self.fresh(name)
        path.mkdir()
        return path

    def run(self, *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Cost:
        """Run a process to its end. Raises MeasuredFailed with what it said."""
        log = self.folder / "last.log"
        request = {
            "command": [str(word) for word in command],
            "cwd": str(cwd or ROOT),
            "env": self.environment(env),
            "log": str(log),
        }
        assert self.spawner.stdin is not None
        assert self.spawner.stdout is not None
        self.spawner.stdin.write(json.dumps(request) + "\n")
        self.spawner.stdin.flush()
        answer = json.loads(self.spawner.stdout.readline())
        if answer["code"] != 0:
            line = " ".join(map(str, command))[:300]
            raise MeasuredFailed(f"{line} ended with {answer['code']}:\n{self.said()[-2000:]}")
        return Cost(answer["seconds"], answer["cpu_seconds"], answer["peak_kb"] / 1000)

    def said(self) -> str:
        """What the last process of `run` printed."""
        return (self.folder / "last.log").read_text(errors="replace")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """As of an installed program: compiled modules are kept, here outside of the tree."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {
            **environment,
            "PYTHONPYCACHEPREFIX": str(self.folder / "pycache"),
            "HOME": str(self.folder),
            "NO_COLOR": "1",
            **(extra or {}),
        }

    def forget(self, *folders: Path) -> None:
        """Give the memory back that these folders take."""
        for folder in folders:
            shutil.rmtree(folder)

    def push(self, repository: str, folder: Path, tag: str = "prod") -> str:
        """Push each file of a folder as a layer of its own, with `oras`; the reference."""
        reference = f"{self.registry.host}/{repository}:{tag}"
        layers = [f"{path.name}:text/plain" for path in sorted(folder.iterdir())]
        self.oras.run("push", "--plain-http", "--no-tty", reference, *layers, cwd=folder).check_returncode()
        return reference


@contextmanager
def open_ground() -> Iterator[Ground]:
    """Everything started; ended again, and its folder removed."""
    on_tmpfs = _TMPFS.is_dir() and shutil.disk_usage(_TMPFS).free > _LEAST_TMPFS_BYTES
    with (
        tempfile.TemporaryDirectory(prefix="oci-sync-bench-", dir=_TMPFS if on_tmpfs else None) as name,
        ExitStack() as ends,
    ):
        folder = Path(name)
        spawner = ends.enter_context(
            subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("spawner.py"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        binaries = go_tools(("registry", "oras", "regctl", "toxiproxy"))
        yield Ground(
            folder=folder,
            broker=servers.start_broker(folder / "kafka", ends),
            registry=servers.start_registry(folder / "registry", ends),
            oras=servers.oras(folder),
            regctl=binaries["regctl"],
            ends=ends,
            spawner=spawner,
        )


def machine() -> str:
    """One line about where this was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores ({model}), Python {sys.version.split()[0]}, load at the start {load}"


def text_file(path: Path, size_bytes: int, seed: int) -> None:
    """A file of printable text in lines of 64 characters, different for each seed."""
    line = f"{seed:063d}\n".encode()
    path.write_bytes((line * (size_bytes // len(line) + 1))[:size_bytes])


def text_files(folder: Path, number: int, size_bytes: int, seeds: Sequence[int] | None = None) -> None:
    """`number` files into the folder; `seeds` says what is in each."""
    for index in range(number):
        seed = index if seeds is None else seeds[index]
        text_file(folder / f"file-{index:05d}.txt", size_bytes, seed)
