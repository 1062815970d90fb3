"""Servers of the readers' tests, and a topic for each format and each end of the story, told once a run."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.readers.matrix import Outcomes, rewrite
from tests.readers.postgres import Postgres, start_postgres
from tests.readers.story import Story, Told
from tests.skipping import or_skip
from tests.system import servers
from tests.system.apicurio import start_apicurio
from tests.system.servers import Broker, Oras, Registry

PAGE = "OCI_SYNC_READERS_PAGE"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that forgets a killed worker soon and cleans its logs at once."""
    hurried = {"group.min.session.timeout.ms": "1000", "log.cleaner.backoff.ms": "100"}
    with ExitStack() as ends, or_skip():
        yield servers.start_broker(tmp_path_factory.mktemp("kafka"), ends, extra=hurried)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that lets everybody write."""
    with ExitStack() as ends, or_skip():
        yield servers.start_registry(tmp_path_factory.mktemp("registry"), ends)


@pytest.fixture(scope="session")
def oras(tmp_path_factory: pytest.TempPathFactory) -> Oras:
    """oras with a home of its own."""
    with or_skip():
        return servers.oras(tmp_path_factory.mktemp("oras"))


@pytest.fixture(scope="session")
def schema_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Starts a schema registry the first time it is called; its URL."""
    with ExitStack() as ends:
        url: list[str] = []

        def start() -> str:
            if not url:
                url.append(start_apicurio(tmp_path_factory.mktemp("apicurio"), ends).url)
            return url[0]

        yield start


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[], str]]:
    """Makes an empty database, on a PostgreSQL that is started the first time; host:port/name."""
    with ExitStack() as ends:
        running: list[Postgres] = []

        def make() -> str:
            if not running:
                running.append(ends.enter_context(start_postgres()))
            return running[0].new_database()

        yield make


Tell = Callable[[str, str], tuple[Told, str]]


@pytest.fixture(scope="session")
def tell(
    kafka: Broker, registry: Registry, oras: Oras, schema_registry: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Tell:  # fmt: skip
    """The topic of one format at one end of the story (`early`, `late`), and the schema registry it needs."""
    told: dict[tuple[str, str], Told] = {}

    def get(format_: str, end: str) -> tuple[Told, str]:
        url = schema_registry() if format_ == "avro" else ""
        if (format_, end) not in told:
            name = f"{format_}-{end}-{uuid.uuid4().hex[:8]}"
            story = Story(kafka, registry, oras, url, tmp_path_factory.mktemp(name), name, format_)
            told[format_, end] = story.early() if end == "early" else story.late()
        return told[format_, end], url

    return get


@pytest.fixture(scope="session")
def outcomes() -> Iterator[Outcomes]:
    """What the readers of this run saw; written into the page that the environment names."""
    collected: Outcomes = {}
    yield collected
    page = os.environ.get(PAGE)
    if page and collected:
        path = Path(page)
        path.write_text(rewrite(path.read_text(), collected))
        print(json.dumps({f"{name}, {format_}": row for (name, format_), row in collected.items()}, default=str))
