"""`oci-sync status` where no worker's listener answers: both halves, from what Kafka holds alone."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.system.product import COMMAND
from tests.system.test_examples import RELEASES, Example, example

__all__ = ["example"]
pytestmark = pytest.mark.system


@pytest.fixture
def it(example: Callable[..., Example]) -> Example:
    made = example("system_sync_flows.yaml")
    worker = json.loads(made.worker_file.read_text())
    del worker["group_instance_id"]  # a static member counts as live for a while after it left
    made.worker_file.write_text(json.dumps(worker))
    return made


def _status(it: Example, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "status", "-c", str(it.worker_file), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _document(it: Example) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_status(it, "-o", "json").stdout)
    return document


def test_with_every_worker_down_both_halves_are_shown_with_what_readers_and_the_store_have(it: Example) -> None:
    digest = it.oras.push(it.reference, RELEASES[1])
    it.source()
    it.sink()

    told = _status(it, "-o", "json")

    assert told.returncode == 3, told.stderr
    document = json.loads(told.stdout)
    (source,), (sink,) = document["sources"], document["sinks"]
    assert (source["flow"], source["artifact"], source["digest"]) == (it.bucket, it.reference, digest)
    assert source["files"] == len(RELEASES[1])
    assert (sink["flow"], sink["topic"], sink["lag_records"]) == (it.bucket, f"oci.{it.bucket}", 0)
    assert sink["digest"] == digest
    assert [one["conditions"][0]["reason"] for one in (source, sink)] == ["NoWorker", "NoWorker"]
    assert digest in sink["conditions"][0]["message"]
    assert len(document["problems"]) == 2


def test_a_release_that_no_sink_has_read_is_its_lag(it: Example) -> None:
    first = it.oras.push(it.reference, RELEASES[1])
    it.source()
    it.sink()
    second = it.oras.push(it.reference, RELEASES[2])
    it.source()

    document = _document(it)

    (source,), (sink,) = document["sources"], document["sinks"]
    assert source["digest"] == second != first
    assert sink["lag_records"] >= len(RELEASES[2])
    assert sink["digest"] is None
    assert f"{sink['lag_records']} records wait" in sink["conditions"][0]["message"]


def test_with_a_worker_that_has_no_listener_both_halves_are_ready_and_the_table_says_so(it: Example) -> None:
    digest = it.oras.push(it.reference, RELEASES[1])
    with subprocess.Popen(
        it.command("run"), env={**os.environ, **it.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            deadline = time.monotonic() + 40
            while (told := _status(it)).returncode != 0:
                assert time.monotonic() < deadline, told.stdout + told.stderr
        finally:
            worker.terminate()

    heads, source, _, sink_heads, sink = told.stdout.splitlines()
    assert heads.split()[:4] == ["SOURCE", "FLOW", "READY", "REASON"]
    assert source.split()[:4] == ["pull_repo", it.bucket, "True", "Committed"]
    assert sink_heads.split()[:6] == ["SINK", "FLOW", "READY", "REASON", "TOPIC", "LAG"]
    assert sink.split()[:6] == ["all", it.bucket, "True", "CaughtUp", f"oci.{it.bucket}", "0"]
    assert digest in sink
