"""The check of a script: what it finds, and that no script takes the process along that reads the flow file."""

import resource
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from connector.config.flow_file import load_flows
from connector.sink.script_child import how_it_ended, problems_of
from connector.sink.tasks import script

MAIN = "def main(event):\n    return None\n"
FLOW = """\
flow:
  name: {name}
  tasks:
    - generate: {{name: tick, interval: 30s}}
    - oci_sync: {{name: pull, artifact: "r.io/o:t"}}
    - buffer: {{name: whole, size: 100, timeout: 5s}}
    - script:
        name: s
        code: |
          def main(event):
              return None
          {line}
    - directory_store: {{name: save, directory: /tmp/nowhere, operation: put}}
"""


@pytest.fixture(autouse=True)
def at_most_two_gigabytes() -> Iterator[None]:
    """Were a script evaluated in this process after all, the tests would end and not the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2_000_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _checked(code: str, **fields: object) -> list[str]:
    return script.check(script.Fields.model_validate({"name": "s", "code": code, **fields}))


def _children() -> int:
    """Pages that ended children were given: no child has none."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", ""),
        ("x = nothing", "line 3: Variable `nothing` not found"),
        ("x = 1 +", "line 3: Parse error"),
        ("x = {}[1]", "line 3: "),
    ],
)
def test_a_check_says_what_the_compiler_says_with_the_line(line: str, problem: str) -> None:
    found = _checked(MAIN + line + "\n")

    assert problem in "".join(found)
    assert len(found) == (1 if problem else 0)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('ok = regex("(a+)+$", "a" * 60 + "!")', "did not end within 0.3 s"),
        ("for i in range(2000000000):\n    pass", "did not end within 0.3 s"),
        ("ok = [0] * 2000000000", "ran out of memory"),
        ("y = ['a' * 1000000 for i in range(4000)]", "ran out of memory"),
        ("y = 'a' * 2000000000", "ran out of memory"),
        ("fail('a' * 100000000)", "ran out of memory"),
        ("x = " + "-" * 100_000 + "1", "nested too deeply"),
    ],
)
def test_a_script_that_takes_too_much_before_main_is_a_problem_and_takes_nobody_along(line: str, problem: str) -> None:
    began = time.monotonic()

    (found,) = _checked(MAIN + line + "\n", **({"timeout": "300ms"} if "0.3 s" in problem else {"memory": "150MB"}))

    assert problem in found
    assert time.monotonic() - began < 5


def test_a_check_takes_less_memory_than_a_run_unless_the_task_says() -> None:
    line = MAIN + "y = ['a' * 1000000 for i in range(250)]\n"

    assert "ran out of memory" in "".join(_checked(line))
    assert _checked(line, memory="1GB") == []


def test_a_long_script_is_checked_with_the_memory_that_its_text_takes() -> None:
    assert _checked(MAIN + "x = [" + "1," * 350_000 + "]\n") == []


@pytest.mark.parametrize("line", ['ok = regex("(a+)+$", "a" * 60 + "!")', "ok = [0] * 2000000000"])
def test_one_bad_script_never_stops_another_flow(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.yaml").write_text(
        FLOW.format(name="bad", line=line).replace("name: s\n", "name: s\n        timeout: 300ms\n")
    )
    (tmp_path / "b.yaml").write_text(FLOW.format(name="good", line="x = 1"))

    loaded = load_flows([tmp_path], environ={})

    assert [flow.name for flow in loaded.flows] == ["good"]
    ((path, error),) = loaded.refused
    assert (path.name, error.reason) == ("a.yaml", "BadValue")
    assert "a.yaml:7:7: what stands outside of main" in error.cause


def test_a_text_is_checked_once_and_a_flow_without_scripts_starts_no_process(tmp_path: Path) -> None:
    code = MAIN + "once = 1\n"
    problems_of(code, timedelta(seconds=30), 250_000_000)
    before = _children()
    head, script_and_rest = FLOW.split("    - buffer")
    (tmp_path / "a.yaml").write_text(head.format(name="without"))

    problems_of(code, timedelta(seconds=30), 250_000_000)
    loaded = load_flows([tmp_path], environ={})

    assert [flow.name for flow in loaded.flows] == ["without"]
    assert "script" in script_and_rest
    assert _children() == before


def test_how_a_process_ended_is_told_in_words() -> None:
    assert how_it_ended(-6, b"memory allocation of 16000000000 bytes failed\nnote: ...") == "it ran out of memory"
    assert how_it_ended(1, b"panicked at bumpalo\nout of memory\n") == "it ran out of memory"
    assert how_it_ended(-11, b"") == "it is nested too deeply"
    assert how_it_ended(3, b"a\nb\n") == "its process ended with 3: b"
