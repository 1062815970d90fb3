"""Is this pid still the process we started? A pid alone is reused; with start time, boot and command it is one process.

The notes are small JSON files beside the server's data. A note that does not fit a living process is stale: it is
ignored and overwritten, and nothing is ever signalled because of it.
"""

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one process from every other: pid, when it started (with the machine's boot), what it runs."""

    pid: int
    started: str
    command: str


def identify(pid: int) -> Identity | None:
    """The identity of the living process `pid`; None when there is none, or only its zombie."""
    return _from_proc(pid) if (_PROC / "self" / "stat").exists() else _from_ps(pid)


def write_note(file: Path, identity: Identity) -> None:
    """Keep `identity` in `file`, whole or not at all."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(identity), indent=1) + "\n", encoding="utf-8")
    fresh.replace(file)


def read_note(file: Path) -> Identity | None:
    """The living process that `file` speaks of; None if there is no note, it is damaged, or the process has gone."""
    try:
        noted = Identity(**json.loads(file.read_text(encoding="utf-8")))
        alive = identify(int(noted.pid))
    except (OSError, ValueError, TypeError):
        return None
    return noted if alive is not None and is_same(noted, alive) else None


def is_same(noted: Identity, alive: Identity) -> bool:
    """Whether both are one process.

    A wrapper that has not become its command yet ends in the command; in the moment of that change (execve) a process
    shows no command at all.
    """
    same_start = (noted.pid, noted.started) == (alive.pid, alive.started)
    return same_start and (not alive.command or alive.command.endswith(noted.command))


def _from_proc(pid: int) -> Identity | None:
    folder = _PROC / str(pid)
    try:
        # The name in parentheses may hold anything, so the fields are counted after its end (proc(5)).
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        command = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    state, threads, started = fields[0], int(fields[17]), fields[19]
    # While its other threads still end, a killed process looks like a zombie, and its ports are still open.
    has_ended = state in "ZX" and threads <= 1
    return None if has_ended else Identity(pid, f"{boot}/{started}", command)


def _from_ps(pid: int) -> Identity | None:
    shown = subprocess.run(
        ["ps", "-ww", "-o", "stat=,lstart=,command=", "-p", str(pid)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if len(shown) < 7 or shown[0].startswith("Z"):
        return None
    return Identity(pid, " ".join(shown[1:6]), " ".join(shown[6:]))
