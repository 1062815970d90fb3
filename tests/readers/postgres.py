"""A PostgreSQL of its own for a test, by the programs of Debian's package, which are not on PATH."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.stack.ports import free_ports
from tools.stack.probes import HOST
from tools.stack.problem import ToolMissing
from tools.stack.steps import run

_DEBIAN = Path("/usr/lib/postgresql")
_REMEDY = "install PostgreSQL (Debian: apt-get install postgresql)"
_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that trusts the user `postgres`. `address` is its host:port."""

    address: str
    programs: Path

    def new_database(self) -> str:
        """An empty database; host:port/name, as it stands in a JDBC URL."""
        host, _, port = self.address.partition(":")
        name = f"rules_{uuid.uuid4().hex[:8]}"
        command: list[str | Path] = [self.programs / "createdb", "-h", host, "-p", port, "-U", "postgres", name]
        run("making a database", command, remedy=_REMEDY)
        return f"{self.address}/{name}"


@contextmanager
def start_postgres() -> Iterator[Postgres]:
    """A fresh server. It ends with the block, or with this program."""
    programs = _find_programs()
    (port,) = free_ports(1)
    # Not under pytest's folder, which only its owner may enter: PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="oci-sync-postgres-"))
    log = folder / "log"
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        initdb: list[str | Path] = [
            programs / "initdb",
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "--auth=trust",
            "-E",
            "UTF8",
            "-N",
        ]
        run("making a cluster of databases", [*_as_nobody(), *initdb], remedy=_REMEDY, cwd=folder)
        settings = ("fsync=off", f"listen_addresses={HOST}", "unix_socket_directories=")
        options = [word for setting in settings for word in ("-c", setting)]
        command: list[str | Path] = [
            *_as_nobody(),
            programs / "postgres",
            "-D",
            folder / "data",
            "-p",
            str(port),
            *options,
        ]
        with log.open("wb") as out:
            server = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            _await_ready(server, log)
            yield Postgres(f"{HOST}:{port}", programs)
        finally:
            server.kill()
            server.wait(10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_programs() -> Path:
    on_path = shutil.which("initdb")
    found = sorted(_DEBIAN.glob("*/bin/initdb")) or ([Path(on_path)] if on_path else [])
    if not found:
        raise ToolMissing("finding PostgreSQL", f"no initdb under {_DEBIAN} and none on PATH", _REMEDY)
    return found[-1].parent


def _as_nobody() -> list[str]:
    """Before a command: drop root, and end when this program ends, however that happens (Linux)."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    drop = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    return [setpriv, *drop, "--pdeathsig", "KILL", "--"]


def _await_ready(server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while "ready to accept connections" not in log.read_text():  # it listens before that, and refuses
        assert server.poll() is None, f"PostgreSQL ended at once:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"PostgreSQL is not ready after {_START_SECONDS} s:\n{log.read_text()}"
        time.sleep(0.05)
