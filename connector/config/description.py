"""The two files as JSON Schema, for editors, and as a page of docs. Both derived from the models, so they cannot lie.

A schema also takes `{{env.NAME}}` wherever a text, number or choice may stand. What JSON Schema cannot say (a task that
no task is called, two tasks of one name) is left to `oci-sync validate`.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticUndefined

from connector.config.fields import nested_models
from connector.config.flow_file import FlowFields
from connector.config.task import RetryFields, TaskFields, find_task, format_duration, format_size, half_of, task_words
from connector.config.template import filter_names
from connector.config.template_filters import REMOVED
from connector.config.worker_file import OVERRIDES, Worker

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE: Final = {"type": "string", "pattern": r"\{\{\s*env\.[A-Za-z_][A-Za-z0-9_]*\s*\}\}"}
_PLAIN: Final = {"integer", "number", "boolean"}
_ISO_DURATION: Final = re.compile(r"P(?:[0-9]+D)?(?:T[0-9.HMS]+)?\Z")


def flow_schema() -> dict[str, Any]:
    """JSON Schema of a flow file, with every task that is installed."""
    words = sorted(task_words())
    modules = {word: find_task(word) for word in words}
    models: list[type[BaseModel]] = [modules[word].Fields for word in words]
    keyed, defs = models_json_schema([(model, "validation") for model in models], ref_template="#/$defs/{model}")
    # One object with one of the words, not a `oneOf`: an editor then underlines the wrong field, not the whole task.
    task = {
        "type": "object",
        "properties": {word: keyed[(model, "validation")] for word, model in zip(words, models, strict=True)},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    head = FlowFields.model_json_schema()["properties"]
    flow = {
        "type": "object",
        "properties": {"name": head["name"], "tasks": {**head["tasks"], "items": task}},
        "required": ["name", "tasks"],
        "additionalProperties": False,
    }
    return _finished("A flow of oci-sync", {"properties": {"flow": flow}, "required": ["flow"]}, defs.get("$defs", {}))


def worker_schema() -> dict[str, Any]:
    """JSON Schema of the worker file."""
    schema = Worker.model_json_schema(ref_template="#/$defs/{model}")
    defs = schema.pop("$defs", {})
    return _finished("The worker file of oci-sync", {"properties": schema["properties"]}, defs)


def configuration_page() -> str:
    """docs/configuration.md, whole."""
    return "\n".join([_HEAD, *_flow_part(), *_worker_part(), *_environment_part(), *_template_part()]) + "\n"


def _finished(title: str, body: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "$schema": _DIALECT,
        "title": title,
        "type": "object",
        **body,
        "patternProperties": {"^x-": {"description": "Yours, for anchors; not read."}},
        "additionalProperties": False,
        "$defs": defs,
    }
    finished: dict[str, Any] = _with_variables(schema)
    return finished


def _with_variables(node: Any, name: str = "") -> Any:
    """The schema without generated titles, and with `{{env.NAME}}` as an alternative to every constrained scalar."""
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    if name in ("properties", "$defs", "patternProperties"):
        return {key: _with_variables(value) for key, value in node.items()}
    if "default" in node:
        node = {**node, "default": _default_as_written(node["default"])}
    if _is_constrained(node):
        about = {key: node[key] for key in ("description", "default", "examples") if key in node}
        bare = {key: value for key, value in node.items() if key not in (*about, "title")}
        return {**about, "anyOf": [bare, dict(_VARIABLE)]}
    keep_title = node.get("$schema") is not None
    return {
        key: value if key in ("default", "examples", "required") else _with_variables(value, key)
        for key, value in node.items()
        if key != "title" or keep_title
    }


def _is_constrained(node: dict[str, Any]) -> bool:
    return "const" in node or "enum" in node or "pattern" in node or str(node.get("type")) in _PLAIN


def _default_as_written(default: Any) -> Any:
    """The default as a user would write it: pydantic gives durations in ISO 8601."""
    if isinstance(default, dict):
        return {name: _default_as_written(value) for name, value in default.items()}
    if isinstance(default, str) and _ISO_DURATION.match(default):
        return format_duration(TypeAdapter(timedelta).validate_python(default))
    return default


_HEAD: Final = """# Configuration

This page is derived from the code (`oci-sync config page`); `oci-sync validate --offline FLOW…` checks files by it. Two
JSON Schemas say the same to an editor: `schemas/flow.schema.json` and `schemas/worker.schema.json`, named by
`# yaml-language-server: $schema=…` in the first line of a file.

Both files are YAML 1.2 in UTF-8, one document each, at most 1 MiB. `no` and `on` are text, `012` is twelve. A key that
stands twice and a field that is not known are errors. Anchors, aliases and `<<` work; top-level keys that begin with
`x-` are yours. **Durations** are `500ms`, `30s`, `5m`, `1h30m`, `2d`; **sizes** are bytes, `64KiB` (1024) or `10MB`
(1000). **Paths** that are relative start at the directory of the file that names them.

`{{env.NAME}}` in a text is replaced by the environment variable, once; an undefined variable is an error, and its value
never reaches a message. Quote a text that begins with `{{`. Every other `{{ … }}` is a template of a task.
"""


def _flow_part() -> Iterator[str]:
    yield "## The flow file\n"
    yield "```yaml\nflow:\n  name: my_flow\n  tasks:\n    - generate: {name: tick, interval: 30s}"
    yield '    - oci_sync: {name: pull, artifact: "registry.example.com/your-org/your-flows:prod"}\n```\n'
    yield "`flow.name`: " + (FlowFields.model_fields["name"].description or "")
    yield "Letters, digits, `.`, `_` and `-`, at most 200.\n"
    yield "A task depends on the one above it unless `depends_on` names others; `generate` starts a chain. Tasks up to"
    yield "and with `oci_sync` are the source half, what follows is the sink half, and the topic lies between. Every"
    yield "`oci_sync` needs a `generate` above it, and no two follow one artifact.\n"
    yield "Every task has `name` (required, unique in its flow) and `depends_on`.\n"
    for half in ("source", "sink"):
        for word in sorted(task_words()):
            module = find_task(word)
            if half_of(module) == half:
                yield f"### `{word}` ({half} half)\n"
                yield f"{_said(module.Fields)}\n"
                yield from _table(module.Fields, leave_out=frozenset(TaskFields.model_fields))
    yield "### `retry`\n"
    yield f"{_said(RetryFields)}\n"
    yield from _table(RetryFields)


def _worker_part() -> Iterator[str]:
    yield "## The worker file\n"
    yield "Every setting has a default, and the file may be left out.\n"
    yield from _table(Worker)
    for name, model in nested_models(Worker).items():
        if model is not RetryFields:
            yield f"### `{name}`\n"
            yield f"{_said(model)}\n"
            yield from _table(model)


def _environment_part() -> Iterator[str]:
    yield "## Environment variables\n"
    yield "These win over the worker file; an empty one counts as not set.\n"
    yield "| variable | setting |\n|---|---|"
    yield from (f"| `{variable}` | `{': '.join(place)}` |" for variable, place in OVERRIDES.items())
    yield ""


def _template_part() -> Iterator[str]:
    yield "## Templates\n"
    yield "`{{ … }}` in a task's fields is Jinja, strict: an undefined value is an error (`TemplateFailed`). Work and"
    yield "output are bounded: `split` and `lines` give at most 200,000 parts, `to_json` and `urlencode` take at most"
    yield "2,000,000 characters. Values have items and no methods: write `| split(',')`, `| replace(…)`,"
    yield (
        "`is startingwith(…)`. Of Jinja's filters these are not there: "
        + ", ".join(f"`{name}`" for name in REMOVED)
        + "."
    )
    yield "Filters beyond Jinja's own: " + ", ".join(f"`{name}`" for name in filter_names()) + "."
    yield "`regex_match` takes Rust's syntax, without look-around."


def _table(model: type[BaseModel], leave_out: frozenset[str] = frozenset()) -> Iterator[str]:
    rows = [(name, info) for name, info in model.model_fields.items() if name not in leave_out]
    nested = nested_models(model)
    if not rows:
        return
    yield "| field | default | description |\n|---|---|---|"
    for name, info in rows:
        inner = nested.get(name)
        default = "see below" if inner is not None and not info.is_required() else _default(info)
        yield f"| `{info.alias or name}` | {default} | {_escaped(info.description or '')}{_choice(info)} |"
    yield ""
    for name, inner in nested.items():
        if model is not Worker and inner is not RetryFields and name not in leave_out:
            yield f"`{name}`: {_said(inner)}\n"
            yield from _table(inner)


def _choice(info: FieldInfo) -> str:
    members = getattr(info.annotation, "__args__", ())
    if members and all(isinstance(member, str) for member in members):
        return " One of " + ", ".join(f"`{member}`" for member in members) + "."
    return ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or value in ((), [], {}, ""):
        return ""
    if isinstance(value, timedelta):
        return f"`{format_duration(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and any(
        "Size" in str(part) or part.__class__.__name__ == "PlainSerializer" for part in info.metadata
    ):
        return f"`{format_size(value)}`"
    if isinstance(value, dict):
        return " ".join(f"`{key}: {inner}`" for key, inner in value.items())
    return f"`{value}`"


def _said(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
