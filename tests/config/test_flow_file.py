"""From a flow file to tasks in order of dependence, or to every mistake in it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from connector.config.flow_file import Flow, load_flow, load_flows
from connector.config.problem import ConfigProblems
from connector.config.task import Half

HEAD = "flow:\n  name: f\n  tasks:\n"
TICK = "    - generate: {name: tick, interval: 30s}\n"
PULL = '    - oci_sync: {name: pull, artifact: "r.example.com/o/f:prod"}\n'
BUFFER = "    - buffer: {name: collect, size: 10000, timeout: 5s}\n"


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None, only: Half | None = None) -> Flow:
    path = folder / "flow.yaml"
    path.write_bytes(text.encode())
    return load_flow(path, only, environ or {})


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None, only: Half | None = None) -> list[str]:
    """Each problem as `line:column: message`, with its reason behind it."""
    with pytest.raises(ConfigProblems) as caught:
        load(folder, text, environ, only)
    return [f"{one.line}:{one.column}: {one.message} [{one.reason}]" for one in caught.value.problems]


def test_a_flow_is_cut_at_oci_sync_and_each_task_depends_on_the_one_above(tmp_path: Path) -> None:
    flow = load(tmp_path, HEAD + TICK + PULL + BUFFER)

    assert [task.name for task in flow.source_tasks] == ["tick", "pull"]
    assert [task.name for task in flow.sink_tasks] == ["collect"]
    assert [task.depends_on for task in flow.tasks] == [(), ("tick",), ("pull",)]


def test_tasks_stand_in_order_of_dependence_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    late = "    - generate: {name: tick, interval: 30s}\n"
    flow = load(tmp_path, HEAD + PULL.replace("}", ", depends_on: [tick]}") + BUFFER + late)

    assert [task.name for task in flow.tasks] == ["tick", "pull", "collect"]
    assert [task.name for task in flow.upstream(flow.tasks[2])] == ["tick", "pull"]


def test_a_second_source_goes_on_from_the_first_and_a_sink_sees_both_above_it(tmp_path: Path) -> None:
    second = '    - oci_sync: {name: more, artifact: "r.example.com/o/g:prod"}\n'

    flow = load(tmp_path, HEAD + TICK + PULL + second + BUFFER)

    assert [task.name for task in flow.upstream(flow.tasks[-1])] == ["tick", "pull", "more"]


def test_a_variable_is_expanded_and_a_template_of_a_task_is_left_alone(tmp_path: Path) -> None:
    diff = (
        '    - diff:\n        name: d\n        owns: ["{{ env.PREFIX }}"]\n'
        '        routes: [{match: ".*", key: "{{env.PREFIX}}{{ (content | from_yaml).flow.name }}"}]\n'
    )

    flow = load(tmp_path, HEAD + TICK + PULL + BUFFER + diff, {"PREFIX": "flowgen.flows."})

    fields = flow.tasks[-1].fields.model_dump()
    assert fields["owns"] == ("flowgen.flows.",)
    assert fields["routes"][0]["key"] == "flowgen.flows.{{ (content | from_yaml).flow.name }}"


def test_what_a_variable_holds_is_not_expanded_again(tmp_path: Path) -> None:
    flow = load(tmp_path, HEAD + TICK + PULL.replace("prod", "{{env.TAG}}"), {"TAG": "v1", "B": "x"})

    assert flow.tasks[1].fields.model_dump()["artifact"] == "r.example.com/o/f:v1"


def test_an_undefined_variable_is_named_with_its_place_and_the_likely_one(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD + TICK + PULL.replace("prod", "{{env.TAGG}}"), {"TAG": "v1"})

    assert found == ["5:40: environment variable TAGG is not set: did you mean TAG? [UnknownVariable]"]


def test_a_variable_with_a_filter_behind_it_is_refused_rather_than_left_to_a_task(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD + TICK + PULL.replace("prod", "{{env.TAG | lower}}"), {"TAG": "v1"})

    assert "write {{env.NAME}} and nothing else within the braces" in found[0]


def test_the_value_of_a_variable_is_in_no_message(tmp_path: Path) -> None:
    text = HEAD + TICK.replace("30s", '"{{env.SECRET}}"') + PULL.replace("}", ', binary: "{{env.SECRET}}"}')

    found = problems(tmp_path, text, {"SECRET": "hunter2-hunter2"})

    assert len(found) == 2
    assert "hunter2" not in repr(found)
    assert "{{env.SECRET}}" in found[0]


def test_a_half_that_does_not_run_may_miss_its_variables(tmp_path: Path) -> None:
    source = HEAD + TICK.replace("30s", '"{{env.INTERVAL}}"') + PULL.replace("prod", "{{env.TAG}}")

    assert load(tmp_path, source + BUFFER, only="sink").tasks[0].name == "tick"
    assert len(problems(tmp_path, source + BUFFER, only="source")) == 2


@pytest.mark.parametrize("field", ["topic", "oversize", "partitioner"])
def test_what_the_sink_half_asks_of_the_source_must_be_known_there_too(tmp_path: Path, field: str) -> None:
    source = HEAD + TICK + PULL.replace("}", f', {field}: "{{{{env.SETTING}}}}"}}')

    (found,) = problems(tmp_path, source + BUFFER, only="sink")

    assert "environment variable SETTING is not set" in found


def test_a_misspelt_field_gets_the_nearest_name(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD + TICK + '    - oci_sync:\n        name: pull\n        artefact: "r/o:t"\n')

    assert found == [
        "5:7: oci_sync needs the field 'artifact' [MissingField]",
        "7:9: unknown field 'artefact': did you mean 'artifact'? [UnknownField]",
    ]


@pytest.mark.parametrize("written", ["Force-Pull", "forcePull", "force.pull", "FORCE_PULL"])
def test_another_spelling_of_a_field_is_recognised(tmp_path: Path, written: str) -> None:
    assert "did you mean 'force_pull'" in problems(tmp_path, HEAD + TICK + PULL.replace("}", f", {written}: true}}"))[0]


def test_a_field_of_another_level_or_task_is_told_where_it_belongs(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "flow:\n  name: f\n  size: 3\n  tasks:\n"
        + TICK.replace("}", ", max_attempts: 3}")
        + PULL.replace("}", ", interval: 1s}")
        + BUFFER,
    )

    assert "`size` belongs to `buffer` (line 7)" in found[0]
    assert "`max_attempts` belongs to `retry`" in found[1]
    assert "`interval` belongs to `generate` (line 5)" in found[2]


def test_all_mistakes_of_a_file_are_listed_at_once_in_order(tmp_path: Path) -> None:
    text = (
        HEAD + "    - generate: {name: tick, interval: 30}\n    - oci_sink: {name: x}\n    - oci_sync: {}\n"
        "    - 3\n    - buffer: {name: a}\n      diff: {name: b}\n    - buffer: {name: c, size: many}\n"
    )

    found = problems(tmp_path, text)

    assert [line.partition(" ")[0] for line in found] == ["4:40:", "5:7:", "6:7:", "6:7:", "7:7:", "8:7:", "10:31:"]
    assert "unknown task 'oci_sink': did you mean 'oci_sync'?" in found[1]
    assert "a task is one word with its fields below it; here are 'buffer', 'diff'" in found[5]


def test_two_tasks_of_one_name_and_two_sources_of_one_artifact_are_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD + TICK + PULL + PULL.replace("name: pull", "name: other") + BUFFER + BUFFER)

    assert "'pull' at line 5 follows the same artifact, so they would share an offset [DuplicateArtifact]" in found[0]
    assert "two tasks are called 'collect'; the other is at line 7 [DuplicateName]" in found[1]


def test_a_circle_is_shown(tmp_path: Path) -> None:
    text = HEAD + TICK + PULL.replace("}", ", depends_on: [collect]}") + BUFFER

    found = problems(tmp_path, text)

    assert len(found) == 1
    assert found[0].endswith("[Cycle]")
    assert "pull" in found[0]
    assert "collect" in found[0]


def test_a_task_that_depends_on_itself_is_a_circle(tmp_path: Path) -> None:
    assert "[Cycle]" in problems(tmp_path, HEAD + TICK + PULL.replace("}", ", depends_on: [pull]}"))[0]


def test_a_dependency_that_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD + TICK + PULL.replace("}", ", depends_on: [tik]}"))

    assert found == [
        "5:78: 'pull' depends on 'tik', which no task is called: did you mean 'tick'? [BadValue]",
    ]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (TICK, "a flow needs an `oci_sync` task"),
        (PULL, "nothing ticks 'pull'"),
        (TICK + BUFFER + PULL, "`oci_sync` cannot follow `buffer` 'collect': the topic lies between"),
        (TICK + PULL + BUFFER.replace("}", ", depends_on: [tick]}"), "'collect' follows no `oci_sync` task"),
        (TICK.replace("}", ", depends_on: [pull]}") + PULL, "`generate` starts a chain and depends on nothing"),
    ],
)
def test_a_flow_has_a_tick_then_a_source_then_what_follows(tmp_path: Path, tasks: str, message: str) -> None:
    assert message in " ".join(problems(tmp_path, HEAD + tasks))


@pytest.mark.parametrize("name", ["a b", "ü", "x/y", "a" * 201, '""', "[a]", "12"])
def test_a_flow_name_is_fit_for_a_topic(tmp_path: Path, name: str) -> None:
    found = problems(tmp_path, HEAD.replace("name: f", f"name: {name}") + TICK + PULL)

    assert found[0].startswith("2:9: ")
    assert found[0].endswith("[BadValue]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("- a", "the file holds no mapping"),
        ("flow", "the file holds no mapping"),
        ("flow:", "flow should be a mapping"),
        ("flow: 3", "flow should be a mapping"),
        ("flow: {name: f, tasks: }", "flow.tasks should be a list"),
        ("flow: {name: f, tasks: []}", "flow.tasks should have at least 1 item"),
        ("flow: {name: f, tasks: {generate: {name: t}}}", "flow.tasks should be a list"),
        ("flows: {name: f}", "unknown field 'flows': did you mean 'flow'?"),
        ("flow: {name: f, tasks: [generate]}", "a task is a mapping of its word to its fields"),
        ("flow: {name: f, tasks: [{generate: [1]}]}", "generate should be a mapping"),
        ("flow: {name: f, tasks: [{generate: }]}", "generate needs the field 'name'"),
        ("flow: {name: f, tasks: [{generate: {name: t, interval: [1, 2]}}]}", "should be a duration"),
        ("flow: {name: f, tasks: [{}]}", "a task is a mapping of its word to its fields"),
    ],
)
def test_a_file_of_another_shape_is_told_what_it_should_be(tmp_path: Path, text: str, message: str) -> None:
    assert message in " ".join(problems(tmp_path, text))


def test_own_keys_at_the_top_hold_anchors(tmp_path: Path) -> None:
    text = "x-retry: &r {max_attempts: 3}\n" + HEAD + TICK + PULL.replace("}", ", retry: *r}")

    assert load(tmp_path, text).tasks[1].fields.model_dump()["retry"]["max_attempts"] == 3


def test_a_relative_path_starts_at_the_file_that_names_it(tmp_path: Path) -> None:
    flow = load(tmp_path, HEAD + TICK + PULL.replace("}", ", credentials_path: creds/r.json}"))

    assert flow.tasks[1].fields.model_dump()["credentials_path"] == tmp_path / "creds" / "r.json"


def test_one_bad_file_hides_no_other_and_the_second_flow_of_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + TICK + PULL)
    (tmp_path / "b.yml").write_text("flow: 3")
    (tmp_path / "c.yaml").write_text(HEAD + TICK + PULL)
    (tmp_path / "notes.txt").write_text("no flow")

    loaded = load_flows([tmp_path], environ={})

    assert [flow.path.name for flow in loaded.flows] == ["a.yaml"]
    assert [(path.name, error.reason) for path, error in loaded.refused] == [
        ("b.yml", "BadValue"),
        ("c.yaml", "DuplicateName"),
    ]


def test_a_directory_without_flow_files_is_an_error_and_not_an_idle_worker(tmp_path: Path) -> None:
    loaded = load_flows([tmp_path], environ={})

    assert [error.reason for _, error in loaded.refused] == ["FileUnreadable"]


def test_a_template_of_a_sink_task_is_compiled_and_shown_at_its_line(tmp_path: Path) -> None:
    diff = (
        '    - diff:\n        name: d\n        owns: ["a."]\n        routes:\n'
        '          - {match: ".*", key: "a.{{ (content | from_yaml).name }}"}\n          - match: "x"\n'
        '            key: "a.{{ content | nope"\n'
    )

    found = problems(tmp_path, HEAD + TICK + PULL + BUFFER + diff)

    assert len(found) == 1
    assert found[0].startswith("13:18: ")
    assert "nope" in found[0]
