"""One server of the stack: start it, await its answer, stop it, and what a test does to it: kill, pause, resume.

What runs is told by the note `process.json` in the server's folder, not by memory: `make down` ends what an earlier
`make up` started. A process that has no valid note here is never signalled.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.stack.probes import HOST, port_is_taken
from tools.stack.problem import StackError
from tools.stack.process import Identity, identify, is_same, read_note, write_note
from tools.stack.steps import tail

_ASK_SECONDS = 0.05  # between two questions to a starting server
_START_SECONDS = 60.0  # a broker needs 1 to 3 s; a loaded two-core machine has been seen to need 15
_STOP_SECONDS = 15.0  # a broker needs 0.3 s after SIGTERM; then it is killed


@dataclass(frozen=True, slots=True)
class Port:
    """A port a server listens on, and the environment variable that moves it (empty: it was chosen freely)."""

    number: int
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """How one server is launched. `folder` holds its data, log and note; `prepare` runs before each start."""

    name: str
    folder: Path
    command: Sequence[str]
    ports: tuple[Port, ...]
    is_ready: Callable[[], bool]
    prepare: Callable[[], None] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """host:port of the first port."""
        return f"{HOST}:{self.ports[0].number}"

    @property
    def log(self) -> Path:
        """What the server printed since it was last started."""
        return self.folder / "log"

    @property
    def note(self) -> Path:
        """Which process it is."""
        return self.folder / "process.json"


class Server:
    """A server of this machine, running or not. Every wait has a bound; errors are StackError.

    `dies_with_us`: the kernel ends the server when this program ends, however that happens. For tests; Linux with
    setpriv, elsewhere a killed test run may leave servers behind.
    """

    def __init__(self, launch: Launch, *, dies_with_us: bool = False) -> None:
        self.launch = launch
        self._dies_with_us = dies_with_us
        self._child: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        process = self.find()
        return f"<Server {self.launch.name} {self.launch.address} {f'pid {process.pid}' if process else 'down'}>"

    def find(self) -> Identity | None:
        """The process that serves, as the note tells; None when it does not run."""
        return read_note(self.launch.note)

    def is_alive(self) -> bool:
        """Whether the process exists; it may still be starting, or frozen."""
        return self.find() is not None

    def is_ready(self) -> bool:
        """Whether the process exists and answers."""
        return self.is_alive() and self.launch.is_ready()

    def start(self) -> None:
        """Start it and return when it answers. One that runs already is only waited for."""
        self.launch_only()
        self.await_ready()

    def check_ports(self) -> None:
        """Raise StackError if somebody else has one of its ports."""
        for port in self.launch.ports:
            if port_is_taken(port.number):
                moved = f"{port.variable}=<another port> make up" if port.variable else "choose another port"
                raise StackError(
                    f"starting {self.launch.name}",
                    f"port {port.number} of {HOST} is in use by another process",
                    f"end that process, or move ours: {moved}",
                )

    def launch_only(self) -> None:
        """Start the process without waiting for its answer, for servers that wait for one another."""
        if self.is_alive():
            return
        self.check_ports()
        self.launch.folder.mkdir(parents=True, exist_ok=True)
        self.launch.prepare()
        with self.launch.log.open("wb") as log:
            child = subprocess.Popen(
                [*self._bound_to_us(), *self.launch.command],
                cwd=self.launch.folder,
                env={**os.environ, **self.launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal is not for the servers
            )
        self._child = child
        born = identify(child.pid)
        if born is not None:  # else it has ended already, and await_ready tells why
            write_note(self.launch.note, Identity(child.pid, born.started, " ".join(self.launch.command)))

    def await_ready(self, timeout_seconds: float = _START_SECONDS) -> None:
        """Return when the server answers. Raises StackError if it ends or stays silent."""
        deadline = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if not self.is_alive():
                raise self._failed("it ended before it was ready")
            if time.monotonic() > deadline:
                raise self._failed(f"it did not answer within {timeout_seconds:.0f} s")
            time.sleep(_ASK_SECONDS)

    def stop(self) -> bool:
        """End it in good order, by force if it does not follow; False when it did not run."""
        return self._end(signal.SIGTERM, signal.SIGCONT)

    def kill(self) -> bool:
        """End it as a crash would (SIGKILL); False when it did not run."""
        return self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it on the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _end(self, *signals: signal.Signals) -> bool:
        process = self._signal(*signals)
        if process is None:
            return False
        if not self._has_ended(process, _STOP_SECONDS):
            os.kill(process.pid, signal.SIGKILL)
            if not self._has_ended(process, _STOP_SECONDS):
                remedy = f"look at process {process.pid}: the kernel does not let it end"
                raise StackError(f"stopping {self.launch.name}", "it lives on after SIGKILL", remedy)
        self.launch.note.unlink(missing_ok=True)
        return True

    def _signal(self, *signals: signal.Signals) -> Identity | None:
        process = self.find()
        if process is None:
            return None
        try:
            for one in signals:
                os.kill(process.pid, one)
        except ProcessLookupError:
            return None  # it ended by itself between the look and the signal
        return process

    def _has_ended(self, process: Identity, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self._child is not None:
                self._child.poll()  # takes our child's exit code; otherwise it stays a zombie
            alive = identify(process.pid)
            if alive is None or not is_same(process, alive):
                return True
            time.sleep(_ASK_SECONDS)
        return False

    def _bound_to_us(self) -> Sequence[str]:
        wrapper = shutil.which("setpriv") if self._dies_with_us else None
        return [wrapper, "--pdeathsig", "KILL", "--"] if wrapper else []

    def _failed(self, cause: str) -> StackError:
        log = self.launch.log
        said = tail(log.read_bytes()) if log.exists() else ""
        return StackError(f"starting {self.launch.name}", cause, f"read {log}; `make down` ends what is left", said)
