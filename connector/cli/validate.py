"""`oci-sync validate`: lint and connect in one, before anything runs; every problem with file, line and column.

What it reads is what `run` reads, by the same functions, so a file that passes here is not refused at the start.
Unless `--offline`, `connector.wiring.probe.probe(worker, flows, half)` then asks the registries, Kafka and the stores.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from connector.cli import ExitCode
from connector.cli.half import Half, without_misshapen
from connector.cli.output import OutputFormat, is_colourful, visible, written
from connector.config.flow import Flow
from connector.config.flow_file import load_flows
from connector.config.problem import ConfigProblems, Finding, Problem
from connector.config.task import Half as HalfName
from connector.config.worker_file import Worker, load_worker
from connector.errors import ConfigError

Probe: TypeAlias = Callable[[Worker, Sequence[Flow], HalfName | None], Coroutine[Any, Any, Sequence[Finding]]]


def validate(
    flows: Annotated[list[Path], typer.Argument(metavar="FLOW…", help="Flow files, or directories of them.")],
    worker_file: Annotated[
        Path | None, typer.Option("-c", "--worker", help="worker.yaml; without it Kafka is at localhost:9092.")
    ] = None,
    only: Annotated[
        Half | None, typer.Option(help="As `run --only`: the other half is not asked, its variables may be unset.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Read the files only; open no connection.")] = False,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="How to print it.")] = OutputFormat.TABLE,
) -> None:
    """Check the files and, unless --offline, what they name: 0 if all is well, 1 with every problem listed."""
    problems: list[Problem] = []
    worker: Worker | None = None
    try:
        worker = load_worker(worker_file)
    except ConfigError as error:
        problems += _problems_of(error)
    half: HalfName | None = only.value if only is not None else None
    loaded = load_flows(flows, half)
    if half != "source":
        loaded = without_misshapen(loaded)
    problems += [problem for path, error in loaded.refused for problem in _problems_of(error, path)]
    findings: Sequence[Finding] = ()
    if not offline and worker is not None and loaded.flows:
        findings = asyncio.run(_probe()(worker, loaded.flows, half))
    _say(loaded.flows, problems, findings, output)
    if problems or not loaded.flows or any(finding.reason for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def _probe() -> Probe:
    """The connected half, imported only when it is asked for: it brings every client with it."""
    probe: Probe = import_module("connector.wiring.probe").probe
    return probe


def _say(flows: Sequence[Flow], problems: Sequence[Problem], findings: Sequence[Finding], output: OutputFormat) -> None:
    if output is not OutputFormat.TABLE:
        document = {"flows": [_flow(flow) for flow in flows], "problems": [*map(_problem, problems)]} | {
            "findings": [{"subject": one.subject, "reason": one.reason, "message": one.message} for one in findings]
        }
        sys.stdout.write(written(document, output))
        return
    red, green, plain = ("\x1b[31m", "\x1b[32m", "\x1b[0m") if is_colourful(sys.stdout) else ("", "", "")
    for problem in problems:
        sys.stdout.write(f"{red}{visible(str(problem))}{plain} [{problem.reason}]\n")
    for finding in findings:
        mark = f"{red}FAIL{plain}" if finding.reason else f"{green}ok{plain}  "
        reason = f" [{finding.reason}]" if finding.reason else ""
        sys.stdout.write(f"{mark} {visible(finding.subject)}: {visible(finding.message)}{reason}\n")
    sys.stdout.write(_summary(flows, problems, findings) + "\n")


def _summary(flows: Sequence[Flow], problems: Sequence[Problem], findings: Sequence[Finding]) -> str:
    failed = sum(1 for finding in findings if finding.reason)
    files = f"{len(flows)} flow{'' if len(flows) == 1 else 's'} in order"
    count = len(problems) + failed
    return f"{files}, {count} problem{'' if count == 1 else 's'}" if count else files if flows else "no flow file found"


def _problems_of(error: ConfigError, path: Path | None = None) -> Iterator[Problem]:
    """The problems that an error holds; for an error of another kind one of the file as a whole."""
    if isinstance(error, ConfigProblems):
        yield from error.problems
    elif path is None:
        yield Problem(error.doing, 0, 0, error.reason, f"{error.cause} ({error.remedy})")
    else:
        yield Problem(str(path), 0, 0, error.reason, f"{error.doing}: {error.cause} ({error.remedy})")


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line or None,
        "column": problem.column or None,
        "reason": problem.reason,
        "message": problem.message,
    }


def _flow(flow: Flow) -> dict[str, Any]:
    tasks = [
        {"task": task.word, "name": task.name, "half": task.half, "depends_on": list(task.depends_on)}
        for task in flow.tasks
    ]
    return {"name": flow.name, "file": str(flow.path), "tasks": tasks}
