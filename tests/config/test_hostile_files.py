"""Whatever stands in a file, reading it ends with a flow, a worker or a ConfigError, and tells no secret."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.config.flow_file import load_flow
from connector.config.task import task_words
from connector.config.worker_file import Worker, load_worker
from connector.errors import ConfigError

ENVIRON = {"SECRET": "hunter2-hunter2"}
FIELDS = [
    *("name", "interval", "artifact", "retry", "depends_on", "owns", "routes", "match", "key", "code", "size", "url"),
    *("max_attempts", "timeout", "include", "bucket", "credentials_path", "operation", "acks", "ca_file", "proxy"),
    *("address", "directory", "cache_size", "r.io", "manage", "partitions", "trusted_realms"),
]

some_text = st.sampled_from(["30s", "{{env.SECRET}}", "{{env.UNSET}}", "10MB", "r.io/o:t", "tick", "\0", "a\x1b[2J"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | some_text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)
tasks = st.dictionaries(st.sampled_from(sorted(task_words())), fields | values, min_size=1, max_size=2) | values
flows = st.fixed_dictionaries(
    {"flow": st.fixed_dictionaries({"name": st.just("f") | values, "tasks": st.lists(tasks, max_size=4) | values})}
)
workers = st.dictionaries(st.sampled_from(sorted(Worker.model_fields)), fields | values, max_size=4)

bounded = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@bounded
@given(flows | values)
def test_any_flow_file_is_a_flow_or_a_config_error(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(json.dumps(content))

    try:
        load_flow(path, None, ENVIRON)
    except ConfigError as error:
        refusal = str(error)
    else:
        refusal = ""

    assert "hunter2" not in refusal


@bounded
@given(workers | values)
def test_any_worker_file_is_a_worker_or_a_config_error(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "worker.yaml"
    path.write_text(json.dumps(content))

    try:
        load_worker(path, ENVIRON)
    except ConfigError as error:
        refusal = str(error)
    else:
        refusal = ""

    assert "hunter2" not in refusal


@pytest.mark.parametrize("task", ["{}", "{generate: {nmae: x}}", "{bufer: {}}"])
def test_a_file_full_of_mistakes_is_answered_in_bounded_time(tmp_path: Path, task: str) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("flow: {name: f, tasks: [" + f"{task}," * 700 + "]}")
    start = time.monotonic()

    with pytest.raises(ConfigError) as caught:
        load_flow(path, None, {})

    assert time.monotonic() - start < 5
    assert len(str(caught.value)) < 10_000
