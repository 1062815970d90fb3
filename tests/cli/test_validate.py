"""`oci-sync validate --offline`: what a person or a script gets to see."""

import json
from pathlib import Path

import pytest

from connector.cli import execute

GOOD = (
    "flow:\n  name: f\n  tasks:\n    - generate: {name: tick, interval: 30s}\n"
    '    - oci_sync: {name: pull, artifact: "r.example.com/o/f:prod"}\n'
)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


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
