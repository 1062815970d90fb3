"""A network that can be broken: toxiproxy between a worker and what it talks to.

    with Proxies(folder) as proxies:
        link = proxies.link(broker_port)          # link.address is what the worker is given
        link.cut()                                # connections end, new ones are refused
        link.lose("downstream")                   # answers are swallowed, requests still arrive
        link.heal()

"upstream" is what the worker sends, "downstream" what it gets. A broker tells its clients where it is, so a broker
behind a link advertises the link's port (`proxied_broker`), on a listener of its own: readers and the test go around.
"""

import json
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.system.servers import Broker
from tools.stack.cache import go_tool
from tools.stack.kafka import Node, kafka
from tools.stack.kafka_files import kafka_files
from tools.stack.ports import free_ports
from tools.stack.probes import HOST, port_is_taken
from tools.stack.server import Launch, Port, Server

Stream = Literal["upstream", "downstream"]


class Proxies:
    """One toxiproxy process and its links."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self._api = f"http://{HOST}:{port}"
        command = [str(go_tool("toxiproxy")), "-host", HOST, "-port", str(port)]
        launch = Launch("toxiproxy", folder, command, (Port(port),), lambda: port_is_taken(port))
        self._server = Server(launch, dies_with_us=True)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.kill()

    def link(self, upstream_port: int, port: int | None = None) -> "Link":
        """A new link to a port of this machine, on a free port unless one is given."""
        port = port or free_ports(1)[0]
        name = f"p{port}"
        self._ask("POST", "/proxies", {"name": name, "listen": f"{HOST}:{port}", "upstream": f"{HOST}:{upstream_port}"})
        return Link(self, name, f"{HOST}:{port}")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._api + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@dataclass(frozen=True)
class Link:
    """One way to one server. Faults add up until `heal`."""

    proxies: Proxies
    name: str
    address: str

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        self.proxies._ask("POST", f"/proxies/{self.name}", {"enabled": False})

    def lose(self, stream: Stream) -> None:
        """Swallow everything one way; connections stay open."""
        self._toxic("timeout", stream, {"timeout": 0})

    def delay(self, milliseconds: int, jitter: int = 0, stream: Stream = "downstream") -> None:
        """Let everything one way arrive late."""
        self._toxic("latency", stream, {"latency": milliseconds, "jitter": jitter})

    def cut_after(self, count: int, stream: Stream) -> None:
        """End each connection after so many bytes one way."""
        self._toxic("limit_data", stream, {"bytes": count})

    def reset(self, milliseconds: int) -> None:
        """End each connection by a TCP reset after so long."""
        self._toxic("reset_peer", "downstream", {"timeout": milliseconds})

    def heal(self) -> None:
        """Forget all faults of this link, and end the connections that lost bytes."""
        for toxic in self.proxies._ask("GET", f"/proxies/{self.name}/toxics"):
            self.proxies._ask("DELETE", f"/proxies/{self.name}/toxics/{toxic['name']}")
        # A stream with a hole in it is of no use: without this a client would read on behind the hole.
        self.cut()
        self.proxies._ask("POST", f"/proxies/{self.name}", {"enabled": True})

    def _toxic(self, kind: str, stream: Stream, attributes: Mapping[str, int]) -> None:
        body = {"name": f"{kind}_{stream}", "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes}
        self.proxies._ask("POST", f"/proxies/{self.name}/toxics", body)


def proxied_broker(folder: Path, ends: ExitStack, proxies: Proxies, extra: Mapping[str, str]) -> tuple[Broker, Link]:
    """A fresh broker with two listeners: `Broker.bootstrap` is the direct one, `Link.address` the breakable one."""
    broker, front, behind = fronted_broker(folder, ends, extra)
    return broker, proxies.link(behind, front)


def fronted_broker(folder: Path, ends: ExitStack, extra: Mapping[str, str]) -> tuple[Broker, int, int]:
    """A fresh broker that advertises the port `front` to those who come by the port `behind`: (broker, front, behind).

    `Broker.bootstrap` is the direct way; what listens at `front` is the caller's.
    """
    client, controller, behind, front = free_ports(4)
    properties = {
        "listeners": f"PLAINTEXT://{HOST}:{client},PROXIED://{HOST}:{behind},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{client},PROXIED://{HOST}:{front}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
        **extra,
    }
    launch = kafka(kafka_files(), folder, Node(1, Port(client), Port(controller)), extra=properties)
    server = Server(launch, dies_with_us=True)
    ends.callback(server.kill)
    server.start()
    return Broker(server), front, behind


def wait_until(what: str, holds: Any, seconds: float) -> None:
    """Return as soon as `holds()` is true. Raises TimeoutError that says what did not come."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)
