"""What the readers are made of, fetched and built once a machine, in the cache of the local stack.

    $OCI_SYNC_CACHE, see tools/stack/cache.py
        readers-java-<key>/     libs/*.jar classes/    key: pom.xml, the program, the Java version
        readers-flink-<key>/    the same
        readers-connect-<key>/  the same
        readers-plugins-<key>/  jdbc/*.jar avro/*.jar  key: the poms
        readers-go-<key>/       reader                 key: go.mod, go.sum, the program, the Go version
        readers-node-<key>/     reader.mjs node_modules/

Each raises ToolMissing, with what to install, where a toolchain is not on this machine.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from tools.stack.cache import NETWORK, cache_folder, key, one_at_a_time
from tools.stack.kafka_files import find_java
from tools.stack.problem import ToolMissing
from tools.stack.steps import run, step

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "tools" / "readers"
PROGRAMS = Path(__file__).parent / "programs"
_GO = "install Go 1.26 or newer and put it on PATH"
_MAVEN = "install Maven (Debian: apt-get install maven)"
_JAVAC = "install a JDK of 17 or newer (Debian: apt-get install openjdk-17-jdk-headless)"
_NODE = "install Node 20 or newer with npm"


# Warnings on standard error: standard output is for the records.
LOG_SETTINGS = f"-Dlog4j2.configurationFile={PROGRAMS / 'log4j2.properties'}"


def java_classpath() -> str:
    """Kafka's own jars (clients, tools, Streams), Avro, and our one class over Streams."""
    return _java("java", PINS / "pom.xml", PROGRAMS / "StreamsReader.java", "118 MB")


def flink_classpath() -> str:
    """Flink with its SQL planner, formats and Kafka connector, and our one class over them."""
    return _java("flink", PINS / "flink.xml", PROGRAMS / "FlinkReader.java", "157 MB")


def connect_classpath() -> str:
    """A worker of Kafka Connect with its file sink, and our one class over it; PostgreSQL's driver to look there."""
    classpath = _java("connect", PINS / "connect.xml", PROGRAMS / "ConnectReader.java", "36 MB")
    (driver,) = (connect_plugins() / "jdbc").glob("postgresql-*.jar")
    return f"{classpath}:{driver}"


def connect_plugins() -> Path:
    """The folder of Connect's plug-ins: Debezium's JDBC sink, Apicurio's Avro converter."""
    poms = {name: PINS / f"{name}.xml" for name in ("jdbc", "avro")}

    def build(folder: Path) -> None:
        for name, pom in poms.items():
            with step(f"fetching the {name} plug-in of Kafka Connect (Maven, {'29 MB' if name == 'jdbc' else '6 MB'})"):
                _fetch_jars(pom, folder / name)

    return _built("plugins", "", [*poms.values()], build, needs=("mvn", _MAVEN))


def _java(name: str, pom: Path, program: Path, size: str) -> str:
    find_java()

    def build(folder: Path) -> None:
        with step(f"fetching the jars of the {name} readers (Maven, {size})"):
            _fetch_jars(pom, folder / "libs")
        javac: list[str | Path] = ["javac", "-cp", f"{folder}/libs/*", "-d", folder / "classes", program]
        run(f"compiling {program.name}", javac, remedy=_JAVAC)

    folder = _built(name, _found("javac", _JAVAC), [pom, program], build, needs=("mvn", _MAVEN))
    return f"{folder}/classes:{folder}/libs/*"


def _fetch_jars(pom: Path, folder: Path) -> None:
    maven: list[str | Path] = [
        *("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies"),
        *("-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
    ]
    run(f"fetching the jars of {pom.name}", maven, remedy=NETWORK)


def go_reader() -> Path:
    """The reader over franz-go."""
    files = [PINS / "go.mod", PINS / "go.sum", PROGRAMS / "reader.go"]

    def build(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder)
        command = ["go", "build", "-mod=readonly", "-ldflags=-s -w", "-o", "reader", "."]
        with step("building the Go reader (go build)"):
            run("building the Go reader", command, remedy=NETWORK, cwd=folder)

    return _built("go", _found("go", _GO), files, build, needs=("go", _GO)) / "reader"


def node_reader() -> Path:
    """The reader over @platformatic/kafka, beside its modules. Their install scripts do not run."""
    files = [PINS / "package.json", PINS / "package-lock.json", PROGRAMS / "reader.mjs"]

    def build(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        with step("fetching the modules of the Node reader (npm)"):
            run("fetching the Node reader", command, remedy=NETWORK, cwd=folder)

    return _built("node", _found("node", _NODE), files, build, needs=("npm", _NODE)) / "reader.mjs"


def _found(program: str, remedy: str) -> str:
    if shutil.which(program) is None:
        raise ToolMissing(f"finding {program} for a reader", f"{program} is not on PATH", remedy)
    return run(f"finding {program}", [program, "version" if program == "go" else "--version"], remedy=remedy)


def _built(
    name: str, version: str, files: list[Path], build: Callable[[Path], None], *, needs: tuple[str, str]
) -> Path:
    folder = cache_folder() / f"readers-{name}-{key(version.encode(), *(file.read_bytes() for file in files))}"
    complete = folder / "complete"
    if not complete.exists():
        _found(*needs)
        with one_at_a_time(folder):
            if not complete.exists():
                build(folder)
                complete.touch()
    return folder
