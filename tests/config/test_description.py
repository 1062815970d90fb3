"""The schemas and the page that are derived from the models are the ones that stand in the tree."""

import json
from pathlib import Path

import pytest

from connector.config.description import configuration_page, flow_schema, worker_schema
from connector.config.task import find_task, task_words
from connector.config.worker_file import Worker

ROOT = Path(__file__).parents[2]
ANEW = "write it anew: oci-sync config {} > {}"


@pytest.mark.parametrize("file", ["flow", "worker"])
def test_the_schema_in_the_tree_is_that_of_the_models(file: str) -> None:
    path = ROOT / "schemas" / f"{file}.schema.json"
    made = flow_schema() if file == "flow" else worker_schema()

    assert json.loads(path.read_text(encoding="utf-8")) == made, ANEW.format(f"schema {file}", path.relative_to(ROOT))


def test_the_page_in_the_tree_is_that_of_the_models() -> None:
    path = ROOT / "docs" / "configuration.md"

    assert path.read_text(encoding="utf-8") == configuration_page(), ANEW.format("page", path.relative_to(ROOT))


def test_every_field_has_a_description() -> None:
    models = [Worker, *(find_task(word).Fields for word in task_words())]

    bare = [f"{model.__module__}.{name}" for model in models for name, info in model.model_fields.items()
            if not info.description]  # fmt: skip

    assert bare == []


def test_a_variable_may_stand_for_a_number_or_a_choice_in_the_schema() -> None:
    partitions = worker_schema()["$defs"]["TopicsFields"]["properties"]["partitions"]

    assert partitions["default"] == 1
    assert partitions["anyOf"][0]["type"] == "integer"
    assert "env" in partitions["anyOf"][1]["pattern"]


def test_defaults_are_written_as_a_user_would() -> None:
    assert flow_schema()["$defs"]["RetryFields"]["properties"]["initial_backoff"]["default"] == "1s"
    assert "| `timeout` | `10m` |" in configuration_page()
    assert "| `max_file_size` | `10MB` |" in configuration_page()
