"""Fixtures of the real servers. Each server starts once a run, when the first test asks for it.

    kafka            Broker      .bootstrap .start() .stop() .kill() .restart() .pause() .resume() .log
    kafka_cluster    Cluster     .bootstrap .kill(n) .start(n) .stop(n) .pause(n) .resume(n), n from 1 to 3
    registry         Registry    .host ("127.0.0.1:port") .url .start() .stop() .kill() .pause() .resume() .log
    registry_htpasswd  the same, wants HTPASSWD_USER and HTPASSWD_PASSWORD of servers.py
    registry_v2      the same by Debian's docker-registry 2.8
    nats             Nats        .url ("nats://127.0.0.1:port") and the same methods
    oras             Oras        oras("pull", ...) -> standard output; oras.push(reference, {path: content}) -> digest
    crane, regctl    Tool        crane("digest", ...) -> standard output; .run(...) for failures
    kcat, skopeo, umoci          the same, from Debian's packages

A test may stop, kill or freeze a server: the next test that asks for it gets it running again, with its data. So
tests choose topic and repository names of their own (fixture `unique`).

Where Go, Java, Maven or a Debian package is missing the tests are skipped and say what to install; with CI=true or
OCI_SYNC_REQUIRE_ALL=1 they fail instead.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system import servers
from tests.system.servers import Broker, Cluster, Nats, Oras, Registry, Tool
from tools.stack.problem import ToolMissing


@contextmanager
def _or_skip() -> Iterator[None]:
    try:
        yield
    except ToolMissing as missing:
        if os.environ.get("CI") == "true" or os.environ.get("OCI_SYNC_REQUIRE_ALL") == "1":
            raise
        pytest.skip(str(missing))


@pytest.fixture
def unique() -> str:
    """A name no other test uses, fit for a topic, a group and a repository."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this run keep their data."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def _kafka(server_folder: Path) -> Iterator[Broker]:
    with ExitStack() as ends, _or_skip():
        yield servers.start_broker(server_folder / "kafka", ends)


@pytest.fixture
def kafka(_kafka: Broker) -> Broker:
    """One broker, in service."""
    _kafka.heal()
    return _kafka


@pytest.fixture(scope="session")
def _kafka_cluster(server_folder: Path) -> Iterator[Cluster]:
    with ExitStack() as ends, _or_skip():
        yield servers.start_cluster(server_folder / "cluster", ends)


@pytest.fixture
def kafka_cluster(_kafka_cluster: Cluster) -> Cluster:
    """Three brokers, all in service."""
    _kafka_cluster.heal()
    return _kafka_cluster


@pytest.fixture(scope="session")
def _registry(server_folder: Path) -> Iterator[Registry]:
    with ExitStack() as ends, _or_skip():
        yield servers.start_registry(server_folder / "registry", ends)


@pytest.fixture
def registry(_registry: Registry) -> Registry:
    """A registry that lets everybody read, write and delete."""
    _registry.heal()
    return _registry


@pytest.fixture(scope="session")
def _registry_htpasswd(server_folder: Path) -> Iterator[Registry]:
    with ExitStack() as ends, _or_skip():
        yield servers.start_registry_with_users(server_folder / "registry-htpasswd", ends)


@pytest.fixture
def registry_htpasswd(_registry_htpasswd: Registry) -> Registry:
    """A registry with one user, by Basic authentication."""
    _registry_htpasswd.heal()
    return _registry_htpasswd


@pytest.fixture(scope="session")
def _registry_v2(server_folder: Path) -> Iterator[Registry]:
    with ExitStack() as ends, _or_skip():
        yield servers.start_registry_v2(server_folder / "registry-v2", ends)


@pytest.fixture
def registry_v2(_registry_v2: Registry) -> Registry:
    """A registry of the generation before, anonymous."""
    _registry_v2.heal()
    return _registry_v2


@pytest.fixture(scope="session")
def _nats(server_folder: Path) -> Iterator[Nats]:
    with ExitStack() as ends, _or_skip():
        yield servers.start_nats(server_folder / "nats", ends)


@pytest.fixture
def nats(_nats: Nats) -> Nats:
    """NATS with JetStream."""
    _nats.heal()
    return _nats


@pytest.fixture
def oras(tmp_path_factory: pytest.TempPathFactory) -> Oras:
    """oras with a home of its own."""
    with _or_skip():
        return servers.oras(tmp_path_factory.mktemp("oras"))


@pytest.fixture
def crane(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """crane with a home of its own."""
    with _or_skip():
        return servers.tool("crane", tmp_path_factory.mktemp("crane"))


@pytest.fixture
def regctl(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """regctl with a home of its own."""
    with _or_skip():
        return servers.tool("regctl", tmp_path_factory.mktemp("regctl"))


@pytest.fixture
def kcat(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """kcat with a home of its own."""
    with _or_skip():
        return Tool(servers.find_program("kcat"), tmp_path_factory.mktemp("kcat"))


@pytest.fixture
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """skopeo with a home of its own."""
    with _or_skip():
        return Tool(servers.find_program("skopeo"), tmp_path_factory.mktemp("skopeo"))


@pytest.fixture
def umoci(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """umoci with a home of its own."""
    with _or_skip():
        return Tool(servers.find_program("umoci"), tmp_path_factory.mktemp("umoci"))
