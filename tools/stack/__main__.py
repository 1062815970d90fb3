"""`python -m tools.stack up | down | wipe | status | fetch | where TOOL`: what `make up` and its sisters call."""

import argparse
import fcntl
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tools.stack.cache import go_tool
from tools.stack.layout import FOLDER, fetch, keep_ports, servers, started
from tools.stack.pins import GO_TOOLS, ROOT
from tools.stack.problem import StackError
from tools.stack.server import Server
from tools.stack.steps import say


def up() -> None:
    """Start what does not run yet and wait until each server answers."""
    with _alone():
        keep_ports()
        if all(server.is_ready() for server in started()):
            print("the stack is up already; nothing to do")
            _show(started())
            return
        stack = servers()
        began = time.monotonic()
        fresh = [server for server in stack if not server.is_alive()]
        for server in fresh:
            server.check_ports()  # of all before any starts: an `up` that fails leaves nothing behind
        for server in fresh:
            say(f"starting {server.launch.name} on {server.launch.address}")
            server.launch_only()
        for server in stack:
            server.await_ready()
        names = ", ".join(server.launch.name for server in fresh) or "all servers"
        say(f"{names} answered after {time.monotonic() - began:.1f} s")
        _show(stack)


def down() -> None:
    """End the servers that `up` started, and no other process."""
    with _alone():
        ended = [server.launch.name for server in started() if server.stop()]
        print(f"stopped {', '.join(ended)}" if ended else "the stack is down already; nothing to do")


def wipe() -> None:
    """`down`, and forget all topics, artifacts and streams."""
    down()
    shutil.rmtree(FOLDER, ignore_errors=True)
    print(f"removed {FOLDER.relative_to(ROOT)}/")


def status() -> None:
    """Say of each server whether it runs and answers; exit code 3 when one does not."""
    _show(started())
    if not all(server.is_ready() for server in started()):
        sys.exit(3)


def fetch_all() -> None:
    """Bring everything the stack and the system tests use into the cache."""
    fetch(tuple(GO_TOOLS))
    say("Kafka, the registry and their tools are in the cache")


def where(name: str) -> None:
    """Print the path of a Go tool (oras, crane, regctl, registry, toxiproxy), which is built if need be."""
    print(go_tool(name))


VERBS: Mapping[str, Callable[[], None]] = {
    "up": up,
    "down": down,
    "wipe": wipe,
    "status": status,
    "fetch": fetch_all,
}


def main() -> None:
    """Run one verb; what goes wrong is said in full, with exit code 1 and no traceback."""
    described: Mapping[str, Callable[..., None]] = {**VERBS, "where": where}
    lines = [f"  {verb:7} {(do.__doc__ or '').splitlines()[0]}" for verb, do in described.items()]
    parser = argparse.ArgumentParser(
        prog="python -m tools.stack",
        description="The local stack: Kafka, an OCI registry, NATS.\n\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb in VERBS:
        verbs.add_parser(verb)
    verbs.add_parser("where").add_argument("tool", choices=GO_TOOLS)
    asked = parser.parse_args()
    try:
        if asked.verb == "where":
            where(asked.tool)
        else:
            VERBS[asked.verb]()
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; `make down` ends what was started", file=sys.stderr)
        sys.exit(130)


def _show(stack: tuple[Server, ...]) -> None:
    for server in stack:
        process = server.find()
        state = "down" if process is None else "ready" if server.is_ready() else "does not answer"
        pid = f"pid {process.pid}" if process else ""
        log = server.launch.log.relative_to(ROOT)
        print(f"  {server.launch.name:9} {state:16} {server.launch.address:17} {pid:12} log {log}")


@contextmanager
def _alone() -> Iterator[None]:
    """One `up` or `down` of this clone at a time; the lock ends with its holder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
