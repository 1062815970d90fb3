"""`oci-sync status`, against a real listener."""

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from connector.cli.status import read_status, status, table
from connector.config.worker_file import load_worker
from connector.errors import ConfigError, RegistryError
from connector.server.routes import Faces, serve
from connector.status import Delivered, PartitionState, SinkId, SourceId, Status, as_json
from connector.telemetry import Telemetry

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
DIGEST = "sha256:" + "9f3c" * 16
APP = typer.Typer()
APP.command()(status)


def state(*, failing: bool = False) -> Status:
    made = Status("worker-1", NOW)
    source = SourceId("system_sync_flows", "pull_repo")
    made.register_source(source, NOW, artifact="r.example.com/o/f:prod", tag="prod", partition=0)
    made.group_joined(NOW, 1)
    made.partition_state(0, NOW, PartitionState.RUNNING)
    made.source_committed(source, NOW, Delivered(DIGEST, 206, "p", NOW), timedelta(), NOW + timedelta(seconds=148))
    if failing:
        error = RegistryError(reason="Unauthorized", doing="HEAD", cause="401 \x1b[31m\nfake", remedy="log in")
        made.source_failed(source, NOW, error, None)
    return made


async def run(made: Status, *arguments: str) -> Result:
    faces = Faces(made, Telemetry(), lambda: NOW + timedelta(minutes=2))
    async with serve("127.0.0.1:0", faces) as url:
        return await asyncio.to_thread(CliRunner().invoke, APP, ["--url", url, *arguments])


async def test_the_table_shows_what_readers_have_and_when_the_next_look_is_due() -> None:
    result = await run(state())

    assert result.exit_code == 0
    head, line = result.stdout.splitlines()
    assert head.split() == ["SOURCE", "FLOW", "READY", "REASON", "REVISION", "AGE", "NEXT", "FILES", "MESSAGE"]
    assert line.split()[:8] == [
        "pull_repo", "system_sync_flows", "True", "Committed", "prod@sha256:9f3c9f3c9f3c…", "2m", "28s", "206"
    ]  # fmt: skip


async def test_what_a_registry_still_lets_us_ask_stands_beneath_the_table_and_in_the_document() -> None:
    made = state()
    made.registry_budget("registry-1.docker.io", 90, 100)
    made.registry_budget("registry-1.docker.io", 76, 100)

    shown = (await run(made)).stdout.splitlines()
    (told,) = json.loads((await run(made, "-o", "json")).stdout)["worker"]["registries"]

    assert shown[-1] == "registry-1.docker.io lets us make 76 of 100 more requests"
    assert told == {"registry": "registry-1.docker.io", "remaining": 76, "limit": 100}


async def test_a_source_that_is_not_ready_is_exit_code_three_and_its_message_cannot_act_on_the_terminal() -> None:
    result = await run(state(failing=True))

    assert result.exit_code == 3
    assert len(result.stdout.splitlines()) == 2
    assert "Unauthorized" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("output", ["json", "yaml"])
async def test_json_and_yaml_hold_the_whole_document(output: str) -> None:
    result = await run(state(), "-o", output)

    shown = json.loads(result.stdout) if output == "json" else YAML(typ="safe", pure=True).load(result.stdout)
    assert shown["sources"][0]["digest"] == DIGEST


def test_what_no_source_says_stands_below_the_table() -> None:
    made = state()
    made.register_sink(SinkId("system_sync_flows", "save_to_kv"), NOW, topic="oci.flows")
    made.flow_failed("bad.yaml", NOW, ConfigError(reason="BadYaml", doing="a", cause="b", remedy="c"))

    shown = table(as_json(made.view(NOW))).splitlines()

    assert shown[-1] == "! flow file bad.yaml: BadYaml: a: b (c)"
    assert sum(line.startswith("!") for line in shown) == 1
    assert any(line.startswith("save_to_kv") for line in shown)


async def test_a_worker_with_sinks_alone_shows_them_alone() -> None:
    made = Status("worker-1", NOW)
    made.register_sink(SinkId("system_sync_flows", "save_to_kv"), NOW, topic="oci.flows")

    result = await run(made)

    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["SINK", "save_to_kv"]


async def test_where_nothing_is_known_that_is_said_and_no_table_shown() -> None:
    result = await run(Status("worker-1", NOW))

    assert result.stdout == ""
    assert result.stderr == "no source and no sink is known\n"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_without_a_worker_the_topics_are_asked_if_there_is_a_way() -> None:
    document = as_json(Status("w", NOW).view(NOW))

    assert read_status(load_worker(None), None, lambda _: document) is document
    with pytest.raises(ConfigError, match=r"no http\.address"):
        read_status(load_worker(None), None)


def test_a_worker_that_should_answer_and_does_not_is_told_before_the_topics_are_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{closed_port()}"
    (tmp_path / "worker.yaml").write_text(f'http: {{address: "{address}"}}\n')
    document = as_json(Status("w", NOW).view(NOW))

    assert read_status(load_worker(tmp_path / "worker.yaml"), None, lambda _: document) is document
    assert f"no worker answers at http://{address}/status" in capsys.readouterr().err


def test_an_url_that_was_insisted_on_is_not_replaced_by_the_topics() -> None:
    with pytest.raises(ConfigError, match="no worker answers"):
        read_status(load_worker(None), f"http://127.0.0.1:{closed_port()}", lambda _: {})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8090", "ftp://x"])
def test_only_http_urls_are_asked(url: str) -> None:
    with pytest.raises(ConfigError, match="neither http"):
        read_status(load_worker(None), url)
