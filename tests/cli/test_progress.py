"""The bar of a pull: on a terminal, on standard error, gone at the end; and nowhere else."""

import os
import pty
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.system.product import COMMAND

FILES = {"a.bin": b"a" * 300_000, "b.bin": b"b" * 300_000}


@pytest.fixture
def command() -> Iterator[list[str]]:
    with FakeRegistry() as registry:
        registry.publish("org/app", "prod", FILES)
        yield [*COMMAND, "pull", registry.reference("org/app")]


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    return {**os.environ, "OCI_SYNC_SPOOL_DIRECTORY": str(tmp_path / "spool"), "TERM": "xterm", "COLUMNS": "100"}


def read_all(terminal: int) -> bytes:
    """What a process wrote to a terminal, when it has let go of it."""
    seen = b""
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # Linux says EIO where the other side is closed
            return seen
        if not part:
            return seen
        seen += part


def test_a_terminal_shows_a_bar_while_a_pull_is_under_way_and_not_after_it(
    command: list[str], environ: Mapping[str, str]
) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = read_all(ours)
        assert process.stdout is not None
        listed = process.stdout.read()
    os.close(ours)

    assert process.returncode == 0, shown
    bar, _, last = shown.rpartition(b"\x1b[2K")  # the bar's line is wiped
    assert b"fetching" in bar
    assert "━".encode() in bar
    assert b"fetching" not in last
    assert b"2 files, 600000 bytes" in last
    assert b"a.bin" in listed
    assert b"\x1b" not in listed


def test_a_pipe_gets_lines_and_nothing_that_moves_a_cursor(command: list[str], environ: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=environ, capture_output=True, timeout=60, check=True)

    assert b"fetching" not in done.stderr
    assert b"\x1b" not in done.stderr + done.stdout
    assert b"\r" not in done.stderr + done.stdout
    assert done.stderr.count(b"\n") == 1
