"""Kafka's jars by Maven and its class archive by one training start, both kept in the cache."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from tools.stack.cache import NETWORK, cache_folder, key, one_at_a_time
from tools.stack.kafka import KafkaFiles, Node, kafka
from tools.stack.pins import TOOLS, kafka_version
from tools.stack.ports import free_ports
from tools.stack.problem import StackError, ToolMissing
from tools.stack.server import Launch, Port, Server
from tools.stack.steps import run, say, step

_OLDEST_JAVA = 17
_MAVEN = "Maven is needed: install it (Debian: apt-get install maven) and put mvn on PATH"


def kafka_files() -> KafkaFiles:
    """Kafka's jars and class archive, fetched and made if this machine has not got them. Raises StackError."""
    java = find_java()
    folder = _folder(java)
    complete = folder / "complete"
    if not complete.exists():
        with one_at_a_time(folder):
            if not complete.exists():
                _fetch_jars(folder / "libs")
                # Here, not in a temporary folder: the archive holds the paths and time stamps of its jars.
                train_archive(java, _jars(folder), folder / "kafka.jsa")
                complete.touch()
    archive = folder / "kafka.jsa"
    return KafkaFiles(java, _jars(folder), archive if archive.exists() else None)


def check_machine() -> None:
    """Raise ToolMissing where this machine lacks what `kafka_files` needs: Java, and Maven until all is fetched."""
    if not (_folder(find_java()) / "complete").exists() and shutil.which("mvn") is None:
        raise ToolMissing("finding Maven for Kafka", "mvn is not on PATH", _MAVEN)


def find_java() -> Path:
    """The java of JAVA_HOME or PATH, if it is new enough. Raises ToolMissing."""
    home = os.environ.get("JAVA_HOME")
    found = Path(home) / "bin" / "java" if home else Path(shutil.which("java") or "java")
    version = _java_version(found)
    number = re.search(r'version "(\d+)', version)
    if number is None or int(number.group(1)) < _OLDEST_JAVA:
        raise ToolMissing("finding Java for Kafka", f"{found} says {version.splitlines()[0]!r}", _java_remedy())
    return found.resolve()


def _java_version(java: Path) -> str:
    return run("finding Java for Kafka", [java, "-version"], remedy=_java_remedy())


def _java_remedy() -> str:
    return (
        f"Java {_OLDEST_JAVA} or newer is needed: install it (Debian: apt-get install openjdk-17-jre-headless), "
        "or let JAVA_HOME name one"
    )


def _fetch_jars(libs: Path) -> None:
    maven: list[str | Path] = [
        *("mvn", "-q", "-B", "-C", "-f", TOOLS / "kafka" / "pom.xml"),
        *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={libs}"),
    ]
    with step(f"fetching Kafka {kafka_version()} (Maven, 43 MB)"):
        shutil.rmtree(libs, ignore_errors=True)
        run("fetching Kafka", maven, remedy=NETWORK if shutil.which("mvn") else _MAVEN)
        if not any(libs.glob("kafka_*.jar")):
            raise StackError("fetching Kafka", f"Maven ended well, but {libs} has no kafka_*.jar", NETWORK)


def _folder(java: Path) -> Path:
    pom = (TOOLS / "kafka" / "pom.xml").read_bytes()
    return cache_folder() / f"kafka-{key(pom, str(java).encode(), _java_version(java).encode())}"


def _jars(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted((folder / "libs").glob("*.jar")))  # sorted: the archive is bound to their order


def train_archive(java: Path, jars: tuple[Path, ...], archive: Path) -> None:
    """Start a broker once so that the JVM keeps its loaded classes in `archive` (AppCDS): later starts take half.

    A failure costs a second a start and nothing else, so it is said and forgotten.
    """
    with step("making Kafka's class archive (once a machine)"), tempfile.TemporaryDirectory() as folder:
        client, controller = free_ports(2)
        plain = kafka(KafkaFiles(java, jars, None), Path(folder), Node(1, Port(client), Port(controller)))
        command = [plain.command[0], f"-XX:ArchiveClassesAtExit={archive}", *plain.command[1:]]
        launch = Launch(plain.name, plain.folder, command, plain.ports, plain.is_ready, plain.prepare)
        server = Server(launch, dies_with_us=True)
        try:
            server.start()
        except StackError as error:
            say(f"Kafka will start slower, without its class archive: {error}")
        finally:
            server.stop()
