"""The recipes of the pages, pointed at the addresses of a test: what a user pastes is what the tests run."""

import re
import uuid
from pathlib import Path

from tests.readers.builds import ROOT
from tests.readers.reading import Asked

README, PAGE = ROOT / "README.md", ROOT / "docs" / "readers.md"
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    """The text of each fenced block."""
    return [found.group(2) for found in _FENCED.finditer(page.read_text())]


def block(marker: str, page: Path = PAGE) -> str:
    """The one block that has `marker` in it."""
    (only,) = (text for text in blocks(page) if marker in text)
    return only


def pointed_at(text: str, asked: Asked) -> str:
    """The recipe with the addresses, the topic and the group of a test, and nothing else changed.

    With an empty `isolation` the lines that name it are left out: a reader that forgets. It suits SQL and properties.
    """
    host, _, path = asked.schema_registry.partition("/apis/")
    exchanged = {
        "localhost:9092": asked.bootstrap,
        "oci.rules": asked.topic,
        "http://localhost:8081": host,
        "localhost:5432/rules": asked.database,
        "mine": f"mine-{uuid.uuid4()}",  # whom a test before this one killed is a member for a while
    }
    assert not path or path == "ccompat/v7", f"the pages have another path than {path}"
    for here, there in exchanged.items():
        text = text.replace(here, there)
    if asked.isolation:
        return text
    return "".join(line for line in text.splitlines(keepends=True) if "isolation.level" not in line)
