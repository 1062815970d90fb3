"""A schema registry that we did not write: Apicurio, fetched once a machine by Maven."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.system.servers import Service, started
from tools.stack.cache import NETWORK, cache_folder, one_at_a_time
from tools.stack.kafka_files import find_java
from tools.stack.ports import free_ports
from tools.stack.probes import HOST, http_answers
from tools.stack.problem import ToolMissing
from tools.stack.server import Launch, Port, Server
from tools.stack.steps import run, step

# The newest line that runs on Java 17.
VERSION = "3.0.9"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_MAVEN = "Maven is needed: install it (Debian: apt-get install maven) and put mvn on PATH"


class SchemaServer(Service):
    """Apicurio with its data in memory: what was registered is gone after `stop`."""

    @property
    def url(self) -> str:
        """Where it speaks Confluent's API."""
        return f"http://{self.address}/apis/ccompat/v7"

    def get(self, path: str) -> Any:
        """What it answers, asked without any code of ours. Raises urllib.error.HTTPError."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def schema(self, schema_id: int) -> Any:
        """The schema of an id, parsed."""
        return json.loads(self.get(f"/schemas/ids/{schema_id}")["schema"])

    def post(self, path: str, document: Mapping[str, str], method: str = "POST") -> int:
        """Ask as a stranger would; the status of the answer."""
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        request = urllib.request.Request(self.url + path, json.dumps(document).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


def apicurio_folder() -> Path:
    """Where the program lies, fetched if this machine has not got it. Raises StackError, ToolMissing."""
    if shutil.which("mvn") is None:
        raise ToolMissing("finding Maven for Apicurio", "mvn is not on PATH", _MAVEN)
    folder = cache_folder() / f"apicurio-{VERSION}"
    complete = folder / "complete"
    if not complete.exists():
        with one_at_a_time(folder):
            if not complete.exists():
                _fetch(folder)
                complete.touch()
    return folder


def _fetch(folder: Path) -> None:
    archive = f"apicurio-registry-app-{VERSION}-all.tar.gz"
    maven = ("mvn", "-q", "-B", "dependency:get", f"-Dartifact={_ARTIFACT}", "-Dtransitive=false")
    copy = ("mvn", "-q", "-B", "dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={folder}")
    with step(f"fetching Apicurio {VERSION} (Maven, 109 MB)"):
        run("fetching Apicurio", list(maven), remedy=NETWORK)
        run("fetching Apicurio", list(copy), remedy=NETWORK)
        run("unpacking Apicurio", ["tar", "-xzf", folder / archive, "-C", folder], remedy=NETWORK)
        (folder / archive).unlink()


def start_apicurio(folder: Path, ends: ExitStack) -> SchemaServer:
    """A fresh registry; about 5 s and 230 MB."""
    program = apicurio_folder()
    (port,) = free_ports(1)
    runner = program / f"apicurio-registry-app-{VERSION}-runner.jar"
    launch = Launch(
        name="apicurio",
        folder=folder,
        command=[
            str(find_java()), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            f"-Dquarkus.http.host={HOST}", f"-Dquarkus.http.port={port}", "-jar", str(runner),
        ],
        ports=(Port(port),),
        is_ready=lambda: http_answers(port, "/apis/ccompat/v7/subjects"),
    )  # fmt: skip
    return SchemaServer(started(Server(launch, dies_with_us=True), ends))
