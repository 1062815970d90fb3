"""The command `oci-sync`: one verb a file, and only the file of the verb that was asked for is imported.

A verb `plan` is the file `cli/plan.py` with a function `plan` (typer annotations), or with an `app: typer.Typer` for
verbs of their own below it. (One that lives beside a sibling is imported into its file, and named by `__all__`.) The
first line of the file's docstring, after the colon, is its line in `--help`.

Rules. (1) Data on standard output, everything else on standard error. (2) An error of the tree is a block of three
parts, without traceback: what was being done, what came back, what to do. Any other exception is a bug and shows its
traceback. (3) Exit codes below; a usage error is 64, so that a script can tell a typo from "changes found".
"""

import ast
import sys
from collections.abc import Sequence
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from connector.cli.output import say_error
from connector.config.problem import did_you_mean
from connector.errors import OciSyncError


class ExitCode(IntEnum):
    """What the command leaves with."""

    DONE = 0
    FAILED = 1
    CHANGES = 2
    NOT_READY = 3
    TIMED_OUT = 4
    USAGE = 64
    INTERRUPTED = 130


class Verbs(TyperGroup):
    """The verbs, found by their files. `ctx` is typer's own context, whose class it does not export."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every verb, by name."""
        return sorted(verb_files())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of one verb, its file imported now; None for an unknown word."""
        return load_verb(cmd_name) if cmd_name in verb_files() else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that the arguments begin with. Fails as a usage error with the nearest name."""
        word = args[0]
        if not word.startswith("-") and word not in verb_files():
            ctx.fail(f"unknown verb {word[:60]!r}" + did_you_mean(word, verb_files(), "verbs are"))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of `--help`, from the files' docstrings: importing every verb would take a second."""
        rows = [(verb, _headline(path)) for verb, path in sorted(verb_files().items())]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


app = typer.Typer(
    name="oci-sync",
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    subcommand_metavar="VERB [ARGUMENTS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"oci-sync {version('oci-sync')}")
        raise typer.Exit


@app.callback()
def oci_sync(
    _: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and leave."
    ),
) -> None:
    """Brings the files of an OCI artifact to Kafka: whole, once, in order."""


def execute(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code. Errors are shown, bugs are not caught."""
    try:
        command = typer.main.get_command(app)
        result = command.main(list(arguments), prog_name="oci-sync", standalone_mode=False)
    except OciSyncError as error:
        say_error(error)
        return ExitCode.FAILED
    except TyperException as error:
        _say_usage(error)
        return ExitCode.USAGE
    except typer.Abort:
        return ExitCode.INTERRUPTED
    return result if isinstance(result, int) else ExitCode.DONE


def verb_files() -> dict[str, Path]:
    """The file of each verb. A module that defines neither `app` nor a function of its own name is no verb."""
    folder = Path(__file__).parent
    files = {module.name: folder / f"{module.name}.py" for module in iter_modules([str(folder)])}
    return {name: path for name, path in files.items() if path.exists() and _is_verb(name, path)}


def load_verb(verb: str) -> Any:
    """The command that typer makes of a verb's file."""
    module = import_module(f"{__name__}.{verb}")
    inner: typer.Typer | None = getattr(module, "app", None)
    if inner is None:
        inner = typer.Typer()
        inner.command(verb)(getattr(module, verb))
    inner._add_completion = False
    inner.rich_markup_mode = None
    command = typer.main.get_command(inner)
    command.name = verb
    command.context_settings.setdefault("help_option_names", ["-h", "--help"])
    return command


def _is_verb(name: str, path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return any(
        text.startswith(mark) or f"\n{mark}" in text
        for mark in (f"def {name}(", "app = typer.Typer(", f'__all__ = ["{name}"]')
    )


def _headline(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    _, _, said = text.partition("\n")[0].partition(": ")
    return said.rstrip(".") or text.partition("\n")[0]


def _say_usage(error: TyperException) -> None:
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ != "NoArgsIsHelpError":
        sys.stderr.write(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n")
    prefix = "" if type(error).__name__ == "NoArgsIsHelpError" else "Error: "
    sys.stderr.write(f"{prefix}{error.format_message()}\n")
