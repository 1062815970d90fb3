"""Readers we did not write rebuild the artifact, byte for byte, before and after compaction; and one who forgets
`isolation.level` sees what docs/readers.md says."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.readers.builds import ROOT
from tests.readers.conftest import PAGE, Tell
from tests.readers.matrix import Outcome, Outcomes, row
from tests.readers.readers import READERS
from tests.readers.reading import Asked, Line, Reader
from tests.readers.story import pulled
from tests.skipping import or_skip
from tests.system.servers import Broker, Oras

SHOWN = "**shows the aborted pull**"
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def _cases() -> list[object]:
    return [
        pytest.param(reader, format_, id=f"{reader.name}-{format_}", marks=[] if reader.is_quick else pytest.mark.long)
        for reader in READERS
        for format_ in reader.formats
    ]


@pytest.mark.parametrize(("reader", "format_"), _cases())
def test_a_reader_rebuilds_what_oras_pulls(
    reader: Reader, format_: str, kafka: Broker, oras: Oras, tell: Tell, new_database: Callable[[], str],
    tmp_path: Path, outcomes: Outcomes,
) -> None:  # fmt: skip
    seen = {}
    for end in ("early", "late"):
        with or_skip():
            told, schema_registry = tell(format_, end)
            for isolation in ("read_committed", ""):
                database = new_database() if reader.fills_a_database else ""
                folder = tmp_path / f"{end}-{isolation or 'unset'}"
                asked = Asked(
                    kafka.bootstrap, told.topic, format_, isolation, schema_registry, folder, told.last, database
                )
                lines = reader.read(asked)
                files = pulled(oras, told, folder / "oras")

                if isolation:
                    assert table_of(lines) == files
                    assert {line.digest for line in newest_of(lines).values()} <= {told.digest, None}
                    assert not shows_the_aborted(lines)
                seen[end, isolation] = words(lines, files)

    outcome = Outcome(
        seen["early", "read_committed"], seen["late", "read_committed"], seen["early", ""], seen["late", ""]
    )
    outcomes[reader.name, format_] = outcome
    if not os.environ.get(PAGE):
        assert row(reader.name, reader.client, format_, outcome) in (ROOT / "docs" / "readers.md").read_text()


def newest_of(lines: Sequence[Line]) -> dict[str, Line]:
    """The newest record of each path, tombstones applied."""
    newest: dict[str, Line] = {}
    for line in lines:
        if line.content is None:
            newest.pop(line.path, None)
        else:
            newest[line.path] = line
    return newest


def table_of(lines: Sequence[Line]) -> dict[str, bytes]:
    """What a table of the topic holds."""
    return {path: line.content for path, line in newest_of(lines).items() if line.content is not None}


def shows_the_aborted(lines: Sequence[Line]) -> bool:
    return any(line.path == "aborted.yaml" for line in lines)


def words(lines: Sequence[Line], files: dict[str, bytes]) -> str:
    if shows_the_aborted(lines):
        return SHOWN if table_of(lines) == files else f"{SHOWN}, keeps its file"
    assert table_of(lines) == files
    return "equal"
