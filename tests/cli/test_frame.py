"""The frame around the verbs: exit codes, errors as blocks, and what is imported when."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from connector.cli import execute, verb_files
from connector.cli.output import OutputFormat, is_colourful, say_error, show, table, written
from connector.errors import RegistryError
from connector.telemetry import SECRETS

ROWS = [{"flow": "f", "files": 3, "age_seconds": None}, {"flow": "longer", "files": 12, "age_seconds": 7}]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OCI_SYNC_")}
    return subprocess.run(
        [sys.executable, "-m", "connector", *arguments],
        capture_output=True, text=True, timeout=60, env=environ, check=False,
    )  # fmt: skip


def test_help_lists_every_verb_by_its_file() -> None:
    done = command("--help")

    assert done.returncode == 0
    for verb in verb_files():
        assert f"\n  {verb} " in done.stdout


def test_a_module_without_a_verb_is_none() -> None:
    assert "output" not in verb_files()
    assert "validate" in verb_files()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Usage: oci-sync"),
        (["valdate"], "unknown verb 'valdate': did you mean 'validate'?"),
        (["--bogus"], "--bogus"),
        (["validate"], "Missing argument"),
        (["validate", "--bogus", "f"], "--bogus"),
        (["validate", "-o", "xml", "f"], "xml"),
        (["run", "--log-level", "warn", "f"], "'debug', 'info', 'warning', 'error'"),
    ],
)
def test_a_usage_error_is_64_and_nothing_is_on_standard_output(
    arguments: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = execute(arguments)

    shown = capsys.readouterr()
    assert code == 64
    assert said in shown.err
    assert shown.out == ""


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out.startswith("oci-sync ")


def test_asking_for_one_verb_imports_no_other_and_no_terminal_library() -> None:
    code = "import sys; from connector.cli import execute; execute(['validate', '--help']); print(sorted(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    loaded = done.stdout.rpartition("[")[2]
    assert "'connector.cli.validate'" in loaded
    for name in ("connector.cli.run", "connector.wiring", "rich", "httpx", "nats", "starlark"):
        assert f"'{name}'" not in loaded


def test_an_error_is_a_block_without_traceback_and_cannot_move_the_cursor() -> None:
    stream = io.StringIO()
    error = RegistryError(
        reason="Unauthorized",
        doing="asking r.example.com/o/f:prod",
        cause="401 \x1b[2Jfrom the registry",
        remedy="log in (operator)",
    )

    say_error(error, stream)

    assert stream.getvalue() == (
        "error: asking r.example.com/o/f:prod failed (Unauthorized)\n"
        "  401 \\x1b[2Jfrom the registry\n"
        "to do: log in (operator)\n"
    )


def test_a_secret_that_was_loaded_is_shown_by_no_error_and_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    SECRETS.add("sesame-of-the-frame")
    error = RegistryError(
        reason="Unauthorized",
        doing="asking sesame-of-the-frame",
        cause="401 for sesame-of-the-frame",
        remedy="do not say sesame-of-the-frame",
    )

    say_error(error)
    for output in OutputFormat:
        show([{"seen": "sesame-of-the-frame is refused"}], output)

    shown = capsys.readouterr()
    assert "sesame" not in shown.out + shown.err
    assert (shown.out.count("*** is refused"), shown.err.count("***")) == (3, 3)


def test_an_error_of_a_verb_leaves_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = execute(["status", "-c", str(tmp_path / "absent.yaml")])

    shown = capsys.readouterr()
    assert code == 1
    assert "(FileUnreadable)" in shown.err
    assert "Traceback" not in shown.err


def test_a_table_is_aligned_with_a_dash_for_nothing() -> None:
    assert table(ROWS) == "FLOW    FILES  AGE SECONDS\nf       3      -\nlonger  12     7\n"


def test_a_table_without_rows_is_its_head() -> None:
    assert table([], ("flow", "files")) == "FLOW  FILES\n"


def test_what_is_not_visible_is_escaped_in_json_and_comes_back_as_it_was() -> None:
    text = "a\x1b[2J\x9b\u202e\U000e0001é日\n"

    shown = written([{"path": text}], OutputFormat.JSON)

    assert shown.replace("\n", "").isprintable()
    assert "é日" in shown
    assert json.loads(shown) == [{"path": text}]


def test_rows_are_json_and_yaml_in_the_order_of_their_fields() -> None:
    assert json.loads(written(ROWS, OutputFormat.JSON)) == ROWS
    assert written(ROWS[:1], OutputFormat.YAML) == "- flow: f\n  files: 3\n  age_seconds: null\n"


def test_no_row_is_said_on_standard_error_and_an_empty_list_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    show([], OutputFormat.TABLE, empty="nothing yet")
    show([], OutputFormat.JSON)

    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("[]\n", "nothing yet\n")


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert is_colourful(Terminal())
    assert not is_colourful(io.StringIO())

    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_colourful(Terminal())


def test_the_level_of_the_log_is_taken_in_any_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        code = execute(["run", "--log-level", "WARNING", str(tmp_path / "absent.yaml")])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    assert code == 1
    assert "absent.yaml" in capsys.readouterr().err
