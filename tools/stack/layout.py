"""The servers of `make up`: which, on which ports, with their data where.

variable               default   what listens there
KAFKA_PORT             29092     Kafka, for clients
KAFKA_CONTROLLER_PORT  29093     Kafka, for its own controller
REGISTRY_PORT          25000     the OCI registry
NATS_PORT              24222     NATS
NATS_MONITOR_PORT      28222     NATS, /healthz and its monitoring pages
"""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.stack.cache import go_folder, go_tools, nats_server
from tools.stack.kafka import Node, kafka
from tools.stack.kafka_files import check_machine, kafka_files
from tools.stack.nats import nats
from tools.stack.pins import ROOT
from tools.stack.probes import http_answers, kafka_cluster
from tools.stack.problem import SeveralErrors, StackError
from tools.stack.registry import registry
from tools.stack.server import Launch, Port, Server

FOLDER = ROOT / ".stack"
PORTS: Mapping[str, int] = {
    "KAFKA_PORT": 29092,
    "KAFKA_CONTROLLER_PORT": 29093,
    "REGISTRY_PORT": 25000,
    "NATS_PORT": 24222,
    "NATS_MONITOR_PORT": 28222,
}


def port(variable: str) -> Port:
    """The port of that variable, or its default. Raises StackError for what is no port."""
    text = os.environ.get(variable, "") or str(PORTS[variable])
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise StackError(
            "reading the environment", f"{variable} is {text!r}", "give a port from 1 to 65535, or unset it"
        )
    return Port(int(text), variable)


def fetch(names: tuple[str, ...]) -> None:
    """Bring Kafka's files and the Go tools `names` into the cache, both sides at the same time. Raises StackError."""
    _all_of(go_folder, check_machine)  # before a long build, not after it
    _all_of(kafka_files, lambda: go_tools(names))


def servers(folder: Path = FOLDER) -> tuple[Server, ...]:
    """All servers of the stack, ready to be started; fetches what is missing."""
    fetch(("registry",))
    node = Node(1, port("KAFKA_PORT"), port("KAFKA_CONTROLLER_PORT"))
    launches = (
        kafka(kafka_files(), folder / "kafka", node),
        registry(go_tools(("registry",))["registry"], folder / "registry", port("REGISTRY_PORT")),
        nats(nats_server(), folder / "nats", port("NATS_PORT"), port("NATS_MONITOR_PORT")),
    )
    return tuple(Server(launch) for launch in launches)


def started(folder: Path = FOLDER) -> tuple[Server, ...]:
    """The servers an earlier `up` started, to be looked at or stopped: nothing is fetched, no Java or Go is needed."""
    ports = ports_in_use(folder)
    kafka_port, registry_port, nats_port, monitor_port = (
        Port(ports[variable], variable)
        for variable in ("KAFKA_PORT", "REGISTRY_PORT", "NATS_PORT", "NATS_MONITOR_PORT")
    )
    return tuple(
        Server(Launch(name, folder / name, (), (port,), is_ready))
        for name, port, is_ready in (
            ("kafka", kafka_port, lambda: kafka_cluster(kafka_port.number) is not None),
            ("registry", registry_port, lambda: http_answers(registry_port.number, "/v2/")),
            ("nats", nats_port, lambda: http_answers(monitor_port.number, "/healthz")),
        )
    )


def ports_in_use(folder: Path = FOLDER) -> dict[str, int]:
    """The ports of the last `up`; the defaults where it left no word."""
    try:
        kept = json.loads((folder / "ports.json").read_text(encoding="utf-8"))
        return {variable: int(kept[variable]) for variable in PORTS}
    except (OSError, ValueError, TypeError, KeyError):
        return dict(PORTS)


def keep_ports(folder: Path = FOLDER) -> None:
    """Remember the ports of this `up`. Raises StackError if a server still runs on others."""
    wanted = {variable: port(variable).number for variable in PORTS}
    kept = ports_in_use(folder)
    running = {server.launch.name for server in started(folder) if server.is_alive()}
    moved = [
        f"{variable}={kept[variable]}"
        for variable in PORTS
        if kept[variable] != wanted[variable] and variable.partition("_")[0].lower() in running
    ]
    if moved:
        remedy = "`make down` first, or ask for the same ports"
        raise StackError("starting the stack", f"it runs already, on other ports: {', '.join(moved)}", remedy)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ports.json").write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _all_of(*parts: Callable[[], object]) -> None:
    """Do all side by side and to the end. Raises StackError, or SeveralErrors."""
    with ThreadPoolExecutor(max_workers=len(parts)) as side_by_side:
        futures = [side_by_side.submit(part) for part in parts]
    failures = [failure for future in futures if (failure := future.exception()) is not None]
    told = [failure for failure in failures if isinstance(failure, StackError)]
    if len(told) > 1 and len(told) == len(failures):
        raise SeveralErrors(told)
    for failure in failures:
        raise failure
