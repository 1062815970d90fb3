"""From the tasks of a flow to chains, and what is no chain."""

import json
from pathlib import Path
from typing import Any

import pytest

from connector.config.flow_file import Flow, load_flow
from connector.config.worker_file import load_worker
from connector.errors import ConfigError, SinkError
from connector.sink.chain import DiffChain, EventChain
from connector.sink.flow_sink import build_lines
from connector.sink.line import Line
from connector.sink.parts import Parts
from connector.wiring.parts import open_parts
from connector.wiring.sink_half import sink_parts
from tests.sink.memory_store import pull

BUFFER = {"buffer": {"name": "b"}}
DIFF = {"diff": {"name": "d", "owns": ["k."], "routes": [{"match": ".", "key": "k.{{ path }}"}]}}
SCRIPT = {"script": {"name": "s", "code": "def main(event):\n    return None\n"}}


def _store(name: str = "kv", **fields: object) -> dict[str, Any]:
    return {"nats_kv_store": {"name": name, "bucket": "b", **fields}}


def _flow(tmp_path: Path, *tasks: dict[str, Any], artifact: str = "example.com/a:1", **options: object) -> Flow:
    path = tmp_path / "flow.yaml"
    source = [{"generate": {"name": "tick"}}, {"oci_sync": {"name": "pull", "artifact": artifact, **options}}]
    path.write_text(json.dumps({"flow": {"name": "f", "tasks": [*source, *tasks]}}))
    return load_flow(path, "sink", {})


def _lines(tmp_path: Path, *tasks: dict[str, Any], artifact: str = "example.com/a:1", **options: object) -> list[Line]:
    return build_lines(_flow(tmp_path, *tasks, artifact=artifact, **options), Parts("f"))


def test_a_diff_and_a_store_are_a_chain(tmp_path: Path) -> None:
    (line,) = _lines(tmp_path, BUFFER, DIFF, _store())

    assert isinstance(line.chain, DiffChain)
    assert (line.chain.name, line.artifacts) == ("kv", frozenset({"example.com/a:1"}))


def test_a_script_and_two_stores_in_a_row_are_two_chains(tmp_path: Path) -> None:
    lines = _lines(tmp_path, BUFFER, SCRIPT, _store("put", operation="put"), _store("delete", operation="delete"))

    assert [line.chain.name for line in lines] == ["put", "delete"]
    assert all(isinstance(line.chain, EventChain) for line in lines)


def test_two_branches_below_one_buffer_are_two_chains(tmp_path: Path) -> None:
    second = {"script": {**SCRIPT["script"], "name": "s2", "depends_on": ["b"]}}

    lines = _lines(tmp_path, BUFFER, DIFF, _store("one"), second, _store("two", operation="put"))

    assert [(line.chain.name, type(line.chain)) for line in lines] == [("one", DiffChain), ("two", EventChain)]


def test_a_flow_that_only_feeds_the_topic_has_none(tmp_path: Path) -> None:
    assert _lines(tmp_path) == []


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([DIFF, _store()], "has no buffer above it"),
        ([BUFFER, DIFF], "leads to no store"),
        ([BUFFER, DIFF, _store(operation="put")], "has operation 'put' after a diff"),
        ([BUFFER, SCRIPT, DIFF, _store()], "cannot stand in one chain with the diff"),
        ([BUFFER, {"buffer": {"name": "b2"}}, DIFF, _store()], "cannot stand in one chain with the diff"),
        ([BUFFER, {"buffer": {"name": "b2"}}, SCRIPT, _store(operation="put")], "follows another buffer"),
        ([BUFFER, _store(operation="list")], "leads to no store"),
    ],
)
def test_what_is_no_chain_is_an_error_that_names_the_task(
    tmp_path: Path, tasks: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _lines(tmp_path, *tasks)

    assert caught.value.reason == "BadValue"


def test_an_artifact_that_is_not_known_by_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a variable that is not set"):
        _lines(tmp_path, BUFFER, DIFF, _store(), artifact="{{env.NOT_SET}}/a:1")


@pytest.mark.parametrize("options", [{"oversize": "reference"}, {"partitioner": "key"}])
def test_records_that_are_no_whole_snapshot_feed_a_topic_but_no_store(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="give these readers a flow of their own"):
        _lines(tmp_path, BUFFER, DIFF, _store(), **options)

    assert _lines(tmp_path, **options) == []


async def test_the_worker_file_bounds_what_a_buffer_of_a_flow_takes(tmp_path: Path) -> None:
    flow = _flow(tmp_path, BUFFER, DIFF, _store(), artifact="example.com/a:1")
    worker = tmp_path / "worker.yaml"
    spool = {"directory": str(tmp_path / "spool")}
    worker.write_text(json.dumps({"limits": {"max_file_size": "1KB", "max_total_size": "2KB"}, "spool": spool}))
    async with open_parts(load_worker(worker)) as parts:
        (line,) = build_lines(flow, sink_parts(parts, flow))

    fits = pull("1", {"a": "x" * 1000, "b": "x" * 1000}, artifact="example.com/a:1")
    whole = [line.take(file, "oci.f", 0, offset) for offset, file in enumerate(fits)][-1]
    first, second = pull("2", {"a": "x" * 1000, "b": "x" * 1001}, artifact="example.com/a:1")
    line.take(first, "oci.f", 0, 2)
    with pytest.raises(SinkError, match="max_total_size is 2000") as caught:
        line.take(second, "oci.f", 0, 3)

    assert whole is not None
    assert caught.value.reason == "SnapshotTooLarge"
