"""What the readers are made of, fetched and built once a machine, in the cache of the local stack.

    $OCI_SYNC_CACHE, see tools/stack/cache.py
        readers-java-<key>/  libs/*.jar classes/    key: pom.xml, the program, the Java version
        readers-go-<key>/    reader                 key: go.mod, go.sum, the program, the Go version
        readers-node-<key>/  reader.mjs node_modules/

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


def java_classpath() -> str:
    """Kafka's own jars (clients, tools, Streams, Connect) and our one class over Streams."""
    find_java()
    pom, program = PINS / "pom.xml", PROGRAMS / "StreamsReader.java"

    def build(folder: Path) -> None:
        maven: list[str | Path] = [
            *("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies"),
            *("-DincludeScope=runtime", f"-DoutputDirectory={folder / 'libs'}"),
        ]
        with step("fetching the jars of the Java readers (Maven, 115 MB)"):
            run("fetching the Java readers", maven, remedy=NETWORK)
        javac: list[str | Path] = ["javac", "-cp", f"{folder}/libs/*", "-d", folder / "classes", program]
        run("compiling the Streams reader", javac, remedy=_JAVAC)

    folder = _built("java", _found("javac", _JAVAC), [pom, program], build, needs=("mvn", _MAVEN))
    return f"{folder}/classes:{folder}/libs/*"


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
