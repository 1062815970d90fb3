"""Real servers for the system tests, on free ports, with their data under pytest's temporary folder.

Launched by the same code as `make up` (tools/stack). Each ends with the test run, even when that is killed.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tools.stack.cache import go_tool, nats_server
from tools.stack.kafka import Node, kafka, new_cluster_id
from tools.stack.kafka_files import kafka_files
from tools.stack.nats import nats
from tools.stack.ports import free_ports
from tools.stack.probes import HOST
from tools.stack.problem import ToolMissing
from tools.stack.registry import registry
from tools.stack.server import Port, Server

HTPASSWD_USER, HTPASSWD_PASSWORD = "reader", "correct horse"
# `htpasswd -nbB` of the two above, with the lowest cost that the registry takes.
_HTPASSWD = "reader:$2b$04$fkdEeMWkoRTX.OAgVJ73F.2gOl5tuRGKDYDLOwM6E3NT7Zb49kI.O\n"

GUARDED_USER, _GUARDED_PASSWORD = "connector", "correct-horse"


class Service:
    """One server of a test. `address` is its host:port, `log` the file of what it says."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.address = server.launch.address
        self.log = server.launch.log

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server!r}>"

    def start(self) -> None:
        """Start it on the data it has and return when it is in service; nothing happens if it runs."""
        self._server.start()

    def stop(self) -> None:
        """End it in good order."""
        self._server.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        self._server.kill()

    def restart(self) -> None:
        """Stop and start."""
        self._server.restart()

    def pause(self) -> None:
        """Freeze it: connections stay open and are accepted, nothing answers."""
        self._server.pause()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._server.resume()

    def heal(self) -> None:
        """Make it running and answering, whatever a test did to it."""
        self._server.resume()
        self._server.start()


class Broker(Service):
    """One Kafka node. `bootstrap` is what clients connect to."""

    @property
    def bootstrap(self) -> str:
        """host:port."""
        return self.address


class GuardedBroker(Broker):
    """A Kafka node with an authorizer. `bootstrap` lets everybody do all; at `guarded` the user below has no right yet.

    `login` are the librdkafka properties of that user.
    """

    def __init__(self, server: Server, guarded: str) -> None:
        super().__init__(server)
        self.guarded = guarded
        self.login = {
            "bootstrap.servers": guarded,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": GUARDED_USER,
            "sasl.password": _GUARDED_PASSWORD,
        }


class Cluster:
    """Three Kafka nodes, numbered 1 to 3; topics have three replicas, a write needs two. `bootstrap` names all."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = dict(enumerate(servers, start=1))
        self.bootstrap = ",".join(server.launch.address for server in servers)

    def start(self, node: int) -> None:
        """Start one node and return when it is in service again."""
        self._servers[node].start()

    def stop(self, node: int) -> None:
        """End one node in good order."""
        self._servers[node].stop()

    def kill(self, node: int) -> None:
        """End one node as a crash would."""
        self._servers[node].kill()

    def pause(self, node: int) -> None:
        """Freeze one node."""
        self._servers[node].pause()

    def resume(self, node: int) -> None:
        """Let a frozen node go on."""
        self._servers[node].resume()

    def heal(self) -> None:
        """Make all nodes run and answer; also the first start, where each waits for the others."""
        for server in self._servers.values():
            server.resume()
            server.launch_only()
        for server in self._servers.values():
            server.await_ready()

    def end(self) -> None:
        """Stop all at once: the last ones would wait in vain for a controller that has gone."""
        for server in self._servers.values():
            server.kill()


class Registry(Service):
    """A registry over plain HTTP. `host` is host:port, as it stands in a reference; `url` the same with http://."""

    @property
    def host(self) -> str:
        """host:port."""
        return self.address

    @property
    def url(self) -> str:
        """http://host:port."""
        return f"http://{self.address}"


class Nats(Service):
    """A NATS server with JetStream."""

    @property
    def url(self) -> str:
        """nats://host:port."""
        return f"nats://{self.address}"


class Tool:
    """A client's binary with a home of its own, so that no credentials of this machine play a part.

    Calling it runs it and returns standard output; a non-zero code fails the test with everything it said.
    `home` may be filled by tests, e.g. `home / ".docker" / "config.json"`.
    """

    def __init__(self, binary: Path, home: Path) -> None:
        self.binary = binary
        self.home = home

    def __call__(self, *arguments: str, cwd: Path | None = None, stdin: str | None = None) -> str:
        ended = self.run(*arguments, cwd=cwd, stdin=stdin)
        assert ended.returncode == 0, f"{self.binary.name} {' '.join(arguments)}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def run(
        self, *arguments: str, cwd: Path | None = None, stdin: str | None = None, timeout_seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run it and return how it ended, whatever its code; for tests of failures."""
        docker = self.home / ".docker"
        return subprocess.run(
            [str(self.binary), *arguments],
            cwd=cwd or self.home,
            env={**os.environ, "HOME": str(self.home), "DOCKER_CONFIG": str(docker), "NO_COLOR": "1"},
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )


class Oras(Tool):
    """`oras`, and the one thing nearly every test wants of it: a push of some files over plain HTTP."""

    def push(
        self,
        reference: str,
        files: Mapping[str, str | bytes],
        *options: str,
        media_type: str = "application/octet-stream",
    ) -> str:
        """Push each file as a layer of its own, titled by its path, and return the manifest's digest."""
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            for path, content in files.items():
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.encode() if isinstance(content, str) else content)
            layers = [f"{path}:{media_type}" for path in files]
            plain = ("push", "--plain-http", "--no-tty", "--format", "go-template={{.digest}}")
            return self(*plain, *options, reference, *layers, cwd=Path(folder)).strip()


def start_broker(folder: Path, ends: ExitStack, extra: Mapping[str, str] | None = None) -> Broker:
    """A fresh broker with its data in `folder`; `ends` will end it, `extra` are broker properties on top."""
    client, controller = free_ports(2)
    launch = kafka(kafka_files(), folder, Node(1, Port(client), Port(controller)), extra=extra)
    return Broker(started(Server(launch, dies_with_us=True), ends))


def start_guarded_broker(folder: Path, ends: ExitStack) -> GuardedBroker:
    """A fresh broker with an authorizer; the listener that needs no login is the administrator's."""
    client, controller, guarded = free_ports(3)
    node = Node(1, Port(client), Port(controller))
    open_to_all, with_login = f"PLAINTEXT://{HOST}:{client}", f"GUARDED://{HOST}:{guarded}"
    login = f'user_{GUARDED_USER}="{_GUARDED_PASSWORD}"'
    extra = {
        "listeners": f"{open_to_all},{with_login},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"{open_to_all},{with_login}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,GUARDED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
        f"required {login};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }
    server = started(Server(kafka(kafka_files(), folder, node, extra=extra), dies_with_us=True), ends)
    return GuardedBroker(server, f"{HOST}:{guarded}")


def start_cluster(folder: Path, ends: ExitStack) -> Cluster:
    """Three fresh brokers; about 5 s and 650 MB."""
    ports = free_ports(6)
    nodes = [Node(number + 1, Port(ports[number]), Port(ports[number + 3])) for number in range(3)]
    files, cluster_id = kafka_files(), new_cluster_id()
    launches = [kafka(files, folder / f"kafka-{n.id}", n, nodes, cluster_id=cluster_id) for n in nodes]
    cluster = Cluster([Server(launch, dies_with_us=True) for launch in launches])
    ends.callback(cluster.end)
    cluster.heal()
    return cluster


def start_registry(folder: Path, ends: ExitStack, htpasswd: str = "") -> Registry:
    """A fresh registry; anonymous unless `htpasswd` holds users."""
    (port,) = free_ports(1)
    launch = registry(go_tool("registry"), folder, Port(port), htpasswd=htpasswd)
    return Registry(started(Server(launch, dies_with_us=True), ends))


def start_registry_with_users(folder: Path, ends: ExitStack) -> Registry:
    """A fresh registry that lets in HTPASSWD_USER with HTPASSWD_PASSWORD, and nobody else."""
    return start_registry(folder, ends, _HTPASSWD)


def start_registry_v2(folder: Path, ends: ExitStack) -> Registry:
    """A fresh registry of another generation: Debian's docker-registry 2.8, anonymous."""
    (port,) = free_ports(1)
    launch = registry(find_program("docker-registry"), folder, Port(port))
    return Registry(started(Server(launch, dies_with_us=True), ends))


def start_nats(folder: Path, ends: ExitStack) -> Nats:
    """A fresh NATS server."""
    client, monitor = free_ports(2)
    return Nats(started(Server(nats(nats_server(), folder, Port(client), Port(monitor)), dies_with_us=True), ends))


def tool(name: str, home: Path) -> Tool:
    """A Go tool of `tools/go.mod` with `home` as its home."""
    return Tool(go_tool(name), home)


def find_program(name: str) -> Path:
    """A program that comes as a Debian package. Raises ToolMissing."""
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(f"finding {name}", "it is not on PATH", f"install it (Debian: apt-get install {name})")
    return Path(found)


def oras(home: Path) -> Oras:
    """oras with `home` as its home."""
    return Oras(go_tool("oras"), home)


def started(server: Server, ends: ExitStack) -> Server:
    """The server, in service; `ends` will end it."""
    ends.callback(server.kill)  # registered first: a server that fails to get ready is ended as well
    server.start()
    return server
