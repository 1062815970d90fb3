"""`oci-sync validate --offline`: what a person or a script gets to see."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector.cli import execute
from connector.errors import ConfigError

GOOD = (
    "flow:\n  name: f\n  tasks:\n    - generate: {name: tick, interval: 30s}\n"
    '    - oci_sync: {name: pull, artifact: "r.example.com/o/f:prod"}\n'
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


# One file for each kind of error: what is wrong, the line that is told, and words of the message.
BAD: dict[str, tuple[str, int, str]] = {
    "BadYaml": (GOOD + "    - buffer: {name: whole\n", 7, "expected"),
    "UnknownField": (GOOD.replace("artifact", "artefact"), 5, "did you mean 'artifact'?"),
    "UnknownTask": (GOOD + "    - bufer: {name: whole}\n", 6, "did you mean 'buffer'?"),
    "MissingField": (GOOD.replace(', artifact: "r.example.com/o/f:prod"', ""), 5, "needs the field 'artifact'"),
    "BadValue": (GOOD.replace("30s", "30"), 4, "needs a unit"),
    "UnknownVariable": (GOOD.replace("prod", "{{env.NO_COLOUR}}"), 5, "did you mean NO_COLOR?"),
    "DuplicateName": (GOOD + "    - buffer: {name: pull}\n", 6, "the other is at line 5"),
    "DuplicateArtifact": (
        GOOD + '    - oci_sync: {name: again, artifact: "r.example.com/o/f:prod"}\n', 6, "'pull' at line 5",
    ),
    "Cycle": (
        GOOD + "    - buffer: {name: a, depends_on: [b]}\n    - buffer: {name: b, depends_on: [a]}\n", 6, "a -> b -> a",
    ),
}  # fmt: skip


def test_there_is_a_bad_file_for_each_kind_of_error() -> None:
    assert BAD.keys() == ConfigError.reasons.keys() - {"FileUnreadable"}  # which has no line; see below


@pytest.mark.parametrize("reason", BAD)
def test_each_kind_of_error_is_exit_1_with_its_line_and_what_was_probably_meant(
    reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, line, words = BAD[reason]
    (tmp_path / "f.yaml").write_text(text)

    code = execute(["validate", "--offline", str(tmp_path / "f.yaml")])

    told = [one for one in capsys.readouterr().out.splitlines() if one.endswith(f"[{reason}]")]
    assert code == 1
    assert len(told) == 1
    assert told[0].startswith(f"{tmp_path}/f.yaml:{line}:")
    assert words in told[0]


def test_a_good_flow_is_0_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.yaml").write_text(GOOD)

    assert execute(["validate", "--offline", str(tmp_path / "f.yaml")]) == 0
    assert capsys.readouterr().out == "1 flow in order\n"


def test_every_problem_of_every_file_is_a_line_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(GOOD.replace("artifact", "artefact").replace("30s", "30"))
    (tmp_path / "worker.txt").write_text("groop: g\n")

    code = execute(["validate", "--offline", "-c", str(tmp_path / "worker.txt"), str(tmp_path)])

    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert lines[0] == f"{tmp_path}/worker.txt:1:1: unknown field 'groop': did you mean 'group'? [UnknownField]"
    assert f"{tmp_path}/bad.yaml:4:40: interval needs a unit" in lines[1]
    assert lines[-1] == "1 flow in order, 4 problems"


def test_a_script_gets_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text("flow: {name: 'a b', tasks: [x]}")

    code = execute(["validate", "--offline", "-o", "json", str(tmp_path)])

    document = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [task["half"] for task in document["flows"][0]["tasks"]] == ["source", "source"]
    assert {problem["line"] for problem in document["problems"]} == {1}
    assert document["problems"][0]["reason"] == "BadValue"


def test_a_file_that_is_not_there_is_a_problem_like_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["validate", "--offline", str(tmp_path / "absent.yaml")]) == 1
    assert "absent.yaml: No such file or directory [FileUnreadable]" in capsys.readouterr().out


def test_what_a_file_says_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.yaml").write_text('flow: {name: f, "\\e[2J": 1, tasks: [{"\\e]0;x\\a": {}}]}')

    assert execute(["validate", "--offline", str(tmp_path / "f.yaml")]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_a_half_alone_is_validated_as_it_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.yaml").write_text(GOOD.replace("prod", "{{env.NOT_SET_ANYWHERE}}"))

    assert execute(["validate", "--offline", str(tmp_path / "f.yaml")]) == 1
    assert execute(["validate", "--offline", "--only", "sink", str(tmp_path / "f.yaml")]) == 0
    assert "NOT_SET_ANYWHERE is not set" in capsys.readouterr().out


SINK = GOOD + (
    "    - buffer: {name: whole}\n"
    '    - diff: {name: all, owns: ["f"], routes: [{match: ".", key: "f{{ path }}"}]}\n'
    "    - directory_store: {name: save, directory: /srv/of-no-test}\n"
)
# What `run` refuses at its start: the file, and words of the message.
MISSHAPEN = {
    "a diff without a buffer": (SINK.replace("    - buffer: {name: whole}\n", ""), "'all' at line 6: it has no buffer"),
    "a put after a diff": (
        SINK.replace("name: save", "name: save, operation: put"),
        "has operation 'put' after a diff",
    ),
    "a partitioner by key": (SINK.replace("name: pull", "name: pull, partitioner: key"), "spreads a snapshot"),
    "references": (SINK.replace("name: pull", "name: pull, oversize: reference"), "sends references"),
}


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("kind", MISSHAPEN)
def test_a_sink_half_that_run_would_refuse_is_a_problem_of_its_file(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, words = MISSHAPEN[kind]
    path = tmp_path / "f.yaml"
    path.write_text(text)

    code = execute(["validate", "--offline", str(path)])
    shown = capsys.readouterr().out.splitlines()
    of_the_source = execute(["validate", "--offline", "--only", "source", str(path)])
    started = execute(["run", "--once", "--strict", str(path)])

    assert (code, started, of_the_source) == (1, 1, 0)
    assert shown[0].startswith(f"{path}: building the sink half: ")
    assert words in shown[0]
    assert shown[-1] == "0 flows in order, 1 problem"


# What a connected `validate` asks for each half, of a Kafka within the process; nobody is at the registry's address.
OF_SOURCE = {"kafka mock", "f/pull 127.0.0.1:9/o/f:prod", "subject oci.f-value"}
OF_SINK = {"kafka mock", "f/save"}


@pytest.mark.parametrize(
    ("only", "expected"),
    [((), OF_SOURCE | OF_SINK), (("--only", "source"), OF_SOURCE), (("--only", "sink"), OF_SINK)],
    ids=["both", "source", "sink"],
)
def test_the_half_that_will_not_run_is_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], only: tuple[str, ...], expected: set[str]
) -> None:
    task = "name: pull, format: avro, retry: {max_attempts: 1}"
    (tmp_path / "f.yaml").write_text(SINK.replace("name: pull", task).replace("r.example.com", "127.0.0.1:9"))
    worker = {"kafka": {"bootstrap.servers": "mock", "test.mock.num.brokers": 1}, "spool": {"directory": str(tmp_path)}}
    (tmp_path / "worker.json").write_text(json.dumps(worker))

    execute(["validate", "-o", "json", "-c", str(tmp_path / "worker.json"), *only, str(tmp_path / "f.yaml")])

    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {finding["subject"] for finding in findings} == expected


def test_a_sink_is_asked_for_its_own_group_and_not_for_that_of_the_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.yaml").write_text(SINK)
    worker = {"kafka": {"bootstrap.servers": "mock", "test.mock.num.brokers": 1}, "spool": {"directory": str(tmp_path)}}
    (tmp_path / "worker.json").write_text(json.dumps(worker))

    execute(["validate", "-c", str(tmp_path / "worker.json"), "--only", "sink", str(tmp_path / "f.yaml")])

    # The mock knows no groups, and what it refuses is what was asked.
    assert "asking for the members of group oci-sync-sink-f" in capsys.readouterr().out


# The first flow that was asked for, its lines as they stand there (the page had lost their indentation).
SEED = """\
flow:
name: oci_sync_flows
tasks:
- generate:
name: trigger
interval: "30s"
- oci_sync:
name: pull_repo
artifact: "registry.example.com/your-org/your-flows:prod"
credentials_path: /etc/flowgen/credentials/registry.json
- buffer:
name: collect_layers
size: 10000
timeout: "5s"
- script:
name: write_cache_keys
code: |
let actions = [];
for layer in event.data.batch {
let parsed = parse_yaml(layer.content);
let key = "flowgen.flows." + parsed.flow.name;
actions.push(#{
action: "put",
key: key,
content: layer.content,
});
}
actions
- nats_kv_store:
name: save_to_kv
operation: put
bucket: flowgen_system
key: "{{event.data.key}}"
credentials_path: /etc/nats/credentials.json
"""
_RHAI = SEED.partition("code: |\n")[2].partition("- nats_kv_store")[0]
_STARLARK = """\
def main(event):
    actions = []
    for layer in event.data.batch:
        parsed = parse_yaml(layer.content)
        key = "flowgen.flows." + parsed.flow.name
        actions.append({"action": "put", "key": key, "content": layer.content})
    return actions
"""


def indented(lines: str, script: str) -> str:
    """The seed's lines as YAML: a task at four blanks, its fields at eight, its script at ten."""
    before, after = lines.split(_RHAI)
    head, *tasks = (before + "SCRIPT\n" + after).partition("- generate:")
    text = head.replace("name:", "  name:").replace("tasks:", "  tasks:")
    for line in "".join(tasks).splitlines():
        if line == "SCRIPT":
            text += "".join(f"          {one}\n" for one in script.splitlines())
        else:
            text += f"    {line}\n" if line.startswith("- ") else f"        {line}\n"
    return text


def test_the_first_flow_that_was_asked_for_is_accepted_with_its_script_in_starlark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.yaml").write_text(indented(SEED, _STARLARK))

    code = execute(["validate", "--offline", str(tmp_path / "f.yaml")])

    assert capsys.readouterr().out == "1 flow in order\n"
    assert code == 0


def test_its_script_in_rhai_is_told_for_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f.yaml").write_text(indented(SEED, _RHAI))

    code = execute(["validate", "--offline", str(tmp_path / "f.yaml")])

    assert code == 1
    assert "line 1: 'let actions =' is Rhai, and scripts are Starlark" in capsys.readouterr().out
