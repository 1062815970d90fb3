"""Fixtures of the real servers. Each server starts once a run, when the first test asks for it.

    kafka            Broker      .bootstrap .start() .stop() .kill() .restart() .pause() .resume() .log
    kafka_cluster    Cluster     .bootstrap .kill(n) .start(n) .stop(n) .pause(n) .resume(n), n from 1 to 3
    kafka_guarded    GuardedBroker  the same with an authorizer; .guarded and .login of a user without rights
    registry         Registry    .host ("127.0.0.1:port") .url .start() .stop() .kill() .pause() .resume() .log
    registry_htpasswd  the same, wants HTPASSWD_USER and HTPASSWD_PASSWORD of servers.py
    registry_v2      the same by Debian's docker-registry 2.8
    nats             Nats        .url ("nats://127.0.0.1:port") and the same methods
    apicurio         SchemaServer  .url of a schema registry, and the same methods
    oras             Oras        oras("pull", ...) -> standard output; oras.push(reference, {path: content}) -> digest
    crane, regctl    Tool        crane("digest", ...) -> standard output; .run(...) for failures
    kcat, skopeo, umoci          the same, from Debian's packages

A test may stop, kill or freeze a server: the next test that asks for it gets it running again, with its data. So
tests choose topic and repository names of their own (fixture `unique`).

Where Go, Java, Maven or a Debian package is missing the tests are skipped and say what to install; with CI=true or
OCI_SYNC_REQUIRE_ALL=1 they fail instead.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import pytest

from tests.skipping import or_skip
from tests.system import servers
from tests.system.apicurio import SchemaServer, start_apicurio
from tests.system.servers import Broker, Cluster, GuardedBroker, Nats, Oras, Registry, Service, Tool


@pytest.fixture
def unique() -> str:
    """A name no other test uses, fit for a topic, a group and a repository."""
    return f"t{uuid.uuid4().hex[:12]}"


S = TypeVar("S", bound=Service | Cluster)
Serve: TypeAlias = Callable[[Callable[[Path, ExitStack], S]], S]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve[Any]]:
    """Starts a server the first time it is asked for, and makes it running and answering each time after."""
    running: dict[str, Any] = {}
    with ExitStack() as ends:

        def served(start: Callable[[Path, ExitStack], S]) -> S:
            name = start.__name__
            if name not in running:
                with or_skip():
                    running[name] = start(tmp_path_factory.mktemp(name), ends)
            running[name].heal()
            return cast("S", running[name])

        yield served


@pytest.fixture
def kafka(serve: Serve[Broker]) -> Broker:
    """One broker, in service."""
    return serve(servers.start_broker)


@pytest.fixture
def kafka_cluster(serve: Serve[Cluster]) -> Cluster:
    """Three brokers, all in service."""
    return serve(servers.start_cluster)


@pytest.fixture
def kafka_guarded(serve: Serve[GuardedBroker]) -> GuardedBroker:
    """One broker with an authorizer, in service."""
    return serve(servers.start_guarded_broker)


@pytest.fixture
def registry(serve: Serve[Registry]) -> Registry:
    """A registry that lets everybody read, write and delete."""
    return serve(servers.start_registry)


@pytest.fixture
def registry_htpasswd(serve: Serve[Registry]) -> Registry:
    """A registry with one user, by Basic authentication."""
    return serve(servers.start_registry_with_users)


@pytest.fixture
def registry_v2(serve: Serve[Registry]) -> Registry:
    """A registry of the generation before, anonymous."""
    return serve(servers.start_registry_v2)


@pytest.fixture
def nats(serve: Serve[Nats]) -> Nats:
    """NATS with JetStream."""
    return serve(servers.start_nats)


@pytest.fixture
def apicurio(serve: Serve[SchemaServer]) -> SchemaServer:
    """A schema registry, in service; subjects are named by the test."""
    return serve(start_apicurio)


@pytest.fixture
def oras(tmp_path_factory: pytest.TempPathFactory) -> Oras:
    """oras with a home of its own."""
    with or_skip():
        return servers.oras(tmp_path_factory.mktemp("oras"))


@pytest.fixture
def crane(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """crane with a home of its own."""
    with or_skip():
        return servers.tool("crane", tmp_path_factory.mktemp("crane"))


@pytest.fixture
def regctl(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """regctl with a home of its own."""
    with or_skip():
        return servers.tool("regctl", tmp_path_factory.mktemp("regctl"))


@pytest.fixture
def kcat(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """kcat with a home of its own."""
    with or_skip():
        return Tool(servers.find_program("kcat"), tmp_path_factory.mktemp("kcat"))


@pytest.fixture
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """skopeo with a home of its own."""
    with or_skip():
        return Tool(servers.find_program("skopeo"), tmp_path_factory.mktemp("skopeo"))


@pytest.fixture
def umoci(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """umoci with a home of its own."""
    with or_skip():
        return Tool(servers.find_program("umoci"), tmp_path_factory.mktemp("umoci"))
