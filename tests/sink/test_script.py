"""Scripts: what they see, what they return, and what they cannot do."""

from typing import Any

import pytest

from connector.errors import SinkError
from connector.sink.event import Event
from connector.sink.parts import Parts
from connector.sink.script_process import ScriptError, problems_of, run, with_attributes
from connector.sink.tasks import script

SEED = """\
def main(event):
    actions = []
    for layer in event.data.batch:
        parsed = parse_yaml(layer.content)
        key = "flowgen.flows." + parsed.flow.name
        actions.append({"action": "put", "key": key, "content": layer.content})
    return actions
"""


def _run(code: str, data: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    (made,) = run(code, [{"data": data or {}, "meta": {"flow": "f"}}])
    return [event["data"] for event in made]


def _script(code: str, **fields: object) -> script.Script:
    return script.build(script.Fields.model_validate({"name": "s", "code": code, **fields}), Parts("f"))


def test_the_script_of_the_first_flow_gives_one_event_a_file() -> None:
    made = _run(SEED, {"batch": [{"path": "a", "content": "flow: {name: one}"}]})

    assert made == [{"action": "put", "key": "flowgen.flows.one", "content": "flow: {name: one}"}]


@pytest.mark.parametrize(
    ("returned", "events"),
    [
        ("None", []),
        ("[]", []),
        ('{"a": 1}', [{"a": 1}]),
        ('{"data": {"a": 1}}', [{"a": 1}]),
        ('{"data": {"a": 1}, "meta": {"b": 2}}', [{"a": 1}]),
        ('[{"a": 1}, {"data": {"a": 2}}]', [{"a": 1}, {"a": 2}]),
    ],
)
def test_one_event_a_list_and_none_are_returned(returned: str, events: list[dict[str, Any]]) -> None:
    assert _run(f"def main(event):\n    return {returned}\n") == events


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ('parse_yaml("a: [1, no]")', {"a": [1, "no"]}),
        ("parse_json('{\"a\": 1}')", {"a": 1}),
        ('to_json({"a": [1]})', '{"a":[1]}'),
        ('regex("b(.)", "abc")', ["bc", "c"]),
        ('regex("x", "abc")', None),
        ('sha256("")', "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_the_built_in_functions_answer(call: str, value: object) -> None:
    assert _run(f'def main(event):\n    return {{"data": {{"value": {call}}}}}\n') == [{"value": value}]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("event.data.nothing", "line 3: Key"),
        ("parse_yaml('a: [')", "line 3: ValueError: from_yaml"),
        ("fail('on purpose')", "line 3: fail: on purpose"),
        ("main(event)", "line 2: Starlark call stack overflow|line 3: Starlark call stack overflow"),
    ],
)
def test_a_failure_names_the_line_and_the_event(line: str, cause: str) -> None:
    with pytest.raises(ScriptError, match=rf"({cause}).*\(event 1 of 1\)"):
        _run(f"def main(event):\n\n    return {line}\n")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def main(event)\n    return 1\n", "line 1: Parse error"),
        ("def main(event):\n    return nothing\n", "line 2: Variable `nothing` not found"),
        ("def mian(event):\n    return None\n", "does not define main"),
        ('load("x", "y")\ndef main(event):\n    return None\n', "line 1: `load` is not allowed"),
        ("def main(event):\n    return (\n", "line"),
    ],
)
def test_check_finds_what_the_compiler_finds(code: str, problem: str) -> None:
    (found,) = problems_of(code)
    assert problem in found


def test_attributes_are_another_way_to_write_keys_and_calls_stay_calls() -> None:
    assert with_attributes('x = event.data.get("a").b + "p.q"  # c.d\n') == (
        'x = event["data"].get("a")["b"] + "p.q"  # c.d\n'
    )


@pytest.mark.parametrize("returned", ["1", "'text'", "[1]", "{'data': 1}", "{'data': {}, 'meta': []}"])
def test_what_no_event_can_be_is_an_error(returned: str) -> None:
    with pytest.raises(ScriptError):
        _run(f"def main(event):\n    return {returned}\n")


async def test_a_script_runs_in_a_process_and_keeps_what_is_known_of_the_event() -> None:
    (made,) = await _script('def main(event):\n    return {"data": {"k": event.meta.flow}, "meta": {"x": 1}}\n').handle(
        [Event({}, {"flow": "f"})]
    )

    assert (made.data, made.meta) == ({"k": "f"}, {"flow": "f", "x": 1})


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("for i in range(2000000000):\n        pass", "did not end within 0.4 s"),
        ("return regex('(a+)+$', 'a' * 60 + 'b')", "did not end within 0.4 s"),
        ("x = ['a' * 1000000 + str(i) for i in range(100000)]", "memory"),
    ],
)
async def test_a_script_that_takes_too_much_is_ended(body: str, cause: str) -> None:
    with pytest.raises(SinkError, match=cause) as caught:
        await _script(
            f"def main(event):\n    {body}\n", timeout="400ms" if "0.4" in cause else "20s", memory="200MB"
        ).handle([Event({})])

    assert caught.value.reason == "ScriptFailed"


@pytest.mark.parametrize("attempt", ["open('/etc/passwd')", "os.environ", "__import__('os')", "().__class__()"])
def test_a_script_sees_no_environment_no_file_and_no_import(attempt: str) -> None:
    with pytest.raises(ScriptError):
        _run(f"def main(event):\n    return {{'x': str({attempt})}}\n")
