"""`oci-sync trigger`, `pause`, `resume`, against a real listener."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from connector.cli.trigger import command_path, pause, resume, trigger
from connector.server.access import Access
from connector.server.routes import Commands, Faces, serve
from connector.status import PartitionState, SourceId, Status
from connector.telemetry import Telemetry

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
APP = typer.Typer()
APP.command()(trigger)
APP.command()(pause)
APP.command()(resume)


def faces(asked: list[SourceId], access: Access) -> Faces:
    async def accept(source: SourceId) -> None:
        asked.append(source)

    made = Status("worker-1", NOW)
    made.register_source(SourceId("flows", "pull"), NOW, artifact="a", tag=None, partition=0)
    made.partition_state(0, NOW, PartitionState.RUNNING)
    return Faces(made, Telemetry(), lambda: NOW, Commands(trigger=accept), access)


async def test_a_trigger_is_accepted_by_the_worker_that_runs_the_source() -> None:
    asked: list[SourceId] = []

    async with serve("127.0.0.1:0", faces(asked, Access())) as url:
        result = await asyncio.to_thread(CliRunner().invoke, APP, ["trigger", "flows/pull", "--url", url])

    assert (result.exit_code, result.stdout) == (0, "trigger accepted\n")
    assert asked == [SourceId("flows", "pull")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["trigger", "flows/nothing"], "NotFound"), (["pause"], "NotImplemented"), (["resume", "flows/pull"], "NotImpl")],
)
async def test_a_refused_command_is_exit_code_one_with_the_reason(arguments: list[str], told: str) -> None:
    async with serve("127.0.0.1:0", faces([], Access())) as url:
        result = await asyncio.to_thread(CliRunner().invoke, APP, [*arguments, "--url", url])

    assert result.exit_code == 1
    assert told in result.stderr


async def test_the_token_is_read_from_the_file_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret-token\n")
    asked: list[SourceId] = []

    async with serve("127.0.0.1:0", faces(asked, Access(token="s3cret-token"))) as url:
        without = await asyncio.to_thread(CliRunner().invoke, APP, ["trigger", "flows/pull", "--url", url])
        monkeypatch.setenv("OCI_SYNC_HTTP_TOKEN_PATH", str(tmp_path / "token"))
        with_it = await asyncio.to_thread(CliRunner().invoke, APP, ["trigger", "flows/pull", "--url", url])

    assert (without.exit_code, with_it.exit_code, len(asked)) == (1, 0, 1)


@pytest.mark.parametrize("source", ["", "flows", "/pull", "flows/", "a/b/c"])
def test_a_source_is_named_by_flow_and_task(source: str) -> None:
    with pytest.raises(typer.BadParameter):
        command_path("trigger", source)
