"""The listener as its callers meet it, over a real socket."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from connector.errors import ConfigError, OutputError, RegistryError
from connector.server.access import Access
from connector.server.routes import Commands, Faces, serve, split_address
from connector.status import Delivered, PartitionState, SourceId, Status
from connector.telemetry import SECRETS, Telemetry

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
SOURCE = SourceId("flows", "pull")
DIGEST = "sha256:" + "9f" * 32


@pytest.fixture(autouse=True)
def _level_as_it_was() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


def status() -> Status:
    made = Status("worker-1", NOW)
    made.register_source(SOURCE, NOW, artifact="r.example.com/o/f:prod", tag="prod", partition=0)
    made.register_source(SourceId("flows", "other"), NOW, artifact="r.example.com/o/g:prod", tag="prod", partition=1)
    made.group_joined(NOW, 1)
    made.partition_state(0, NOW, PartitionState.RESTORING)
    made.source_restored(SOURCE, NOW, Delivered(DIGEST, 206, "0190", NOW))
    made.partition_state(0, NOW, PartitionState.RUNNING)
    made.source_unchanged(SOURCE, NOW, DIGEST, timedelta(milliseconds=41))
    return made


@asynccontextmanager
async def listening(
    state: Status | None = None,
    commands: Commands | None = None,
    access: Access | None = None,
    now: datetime = NOW,
) -> AsyncIterator[aiohttp.ClientSession]:
    faces = Faces(state or status(), Telemetry(), lambda: now, commands or Commands(), access or Access())
    async with serve("127.0.0.1:0", faces) as url, aiohttp.ClientSession(url) as client:
        yield client


async def test_status_is_json_with_the_conditions() -> None:
    async with listening() as client, client.get("/status") as answer:
        shown = await answer.json()

    assert answer.status == 200
    assert shown["ready"] is True
    assert shown["sources"][1]["revision"] == f"prod@{DIGEST}"


async def test_a_registry_that_is_down_makes_status_not_ready_but_restarts_no_pod() -> None:
    state = status()
    error = RegistryError(reason="Unreachable", doing="HEAD", cause="refused", remedy="start it")
    state.source_failed(SOURCE, NOW, error, None)

    async with (
        listening(state) as client,
        client.get("/readyz") as ready,
        client.get("/healthz") as alive,
        client.get("/status") as shown,
    ):
        body = await shown.json()

    assert (ready.status, alive.status, body["ready"]) == (200, 200, False)


async def test_readyz_says_what_it_waits_for() -> None:
    async with listening(Status("w", NOW)) as client, client.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (503, "Kafka was not reached yet\n")


async def test_healthz_fails_once_the_polling_thread_is_silent() -> None:
    state = status()
    state.poll_thread_beat(NOW)

    async with listening(state, now=NOW + timedelta(minutes=5)) as client, client.get("/healthz") as answer:
        assert answer.status == 503


async def test_the_page_shows_a_hostile_text_as_text_and_needs_nothing_from_elsewhere() -> None:
    state = status()
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    state.source_failed(
        SOURCE, NOW, RegistryError(reason="NotFound", doing=hostile, cause=hostile, remedy=hostile), None
    )

    async with listening(state) as client, client.get("/") as answer:
        page = await answer.text()

    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "src=" not in page.replace("src=x", "")
    assert "NotFound" in page
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


async def test_a_registered_secret_shows_on_no_face() -> None:
    state = status()
    SECRETS.add('tr0ub4dor&"3')
    state.source_failed(
        SOURCE, NOW, RegistryError(reason="NotFound", doing="a", cause='tr0ub4dor&"3', remedy="c"), None
    )

    async with listening(state) as client:
        for path in ("/", "/status", "/metrics"):
            async with client.get(path) as answer:
                assert "tr0ub4dor" not in await answer.text(), path


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/healthz", "/nothing"])
async def test_a_foreign_host_name_reads_nothing(path: str) -> None:
    async with listening() as client, client.get(path, headers={"Host": "evil.example.com"}) as answer:
        body = await answer.text()

    assert answer.status == 421
    assert "worker-1" not in body


async def test_two_host_headers_or_none_are_refused() -> None:
    async with serve("127.0.0.1:0", Faces(status(), Telemetry(), lambda: NOW)) as url:
        for head in ("Host: localhost\r\nHost: evil.example.com\r\n", ""):
            reader, writer = await asyncio.open_connection(*split_address(url.removeprefix("http://")))
            writer.write(f"GET /status HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            line = await asyncio.wait_for(reader.readline(), 5)
            writer.close()

            assert line.split()[1] == b"400"


async def test_a_trigger_reaches_its_source() -> None:
    asked: list[SourceId] = []

    async def trigger(source: SourceId) -> None:
        asked.append(source)

    async with listening(commands=Commands(trigger=trigger)) as client, client.post("/-/trigger/flows/pull") as answer:
        assert answer.status == 202

    assert asked == [SOURCE]


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/-/trigger/flows/pull", 501, "NotImplemented"),
        ("/-/pause", 501, "NotImplemented"),
        ("/-/resume/flows/pull", 501, "NotImplemented"),
        ("/-/trigger/flows/nothing", 404, "NotFound"),
        ("/-/trigger/flows/other", 409, "NotOwner"),
        ("/-/trigger/..%2f..%2fetc/%0d%0aX: 1", 404, "NotFound"),
    ],
)
async def test_a_command_that_cannot_be_done_says_why(path: str, code: int, reason: str) -> None:
    async with listening() as client, client.post(path) as answer:
        body = await answer.json()

    assert (answer.status, body["error"]["reason"]) == (code, reason)


async def test_pause_and_resume_take_all_sources_or_one() -> None:
    asked: list[tuple[str, SourceId | None]] = []

    async def pause(source: SourceId | None) -> None:
        asked.append(("pause", source))

    async def resume(source: SourceId | None) -> None:
        asked.append(("resume", source))

    async with listening(commands=Commands(pause=pause, resume=resume)) as client:
        for path in ("/-/pause", "/-/resume/flows/pull"):
            async with client.post(path) as answer:
                assert answer.status == 202

    assert asked == [("pause", None), ("resume", SOURCE)]


async def test_an_error_of_the_tree_refuses_a_command_in_its_own_words() -> None:
    async def trigger(_: SourceId) -> None:
        raise OutputError(reason="NotOwner", doing="triggering", cause="just lost", remedy="ask again")

    async with listening(commands=Commands(trigger=trigger)) as client, client.post("/-/trigger/flows/pull") as answer:
        body = await answer.json()

    assert answer.status == 409
    assert body["error"] == {"reason": "NotOwner", "message": "triggering: just lost (ask again)"}


async def test_a_page_of_another_site_triggers_nothing() -> None:
    async def trigger(_: SourceId) -> None:
        raise AssertionError

    async with listening(commands=Commands(trigger=trigger)) as client:
        for headers in ({"Origin": "https://evil.example.com"}, {"Sec-Fetch-Site": "cross-site"}):
            async with client.post("/-/trigger/flows/pull", headers=headers) as answer:
                assert answer.status == 403


async def test_commands_are_no_get_requests() -> None:
    async with listening() as client, client.get("/-/trigger/flows/pull") as answer:
        assert answer.status == 405


async def test_the_token_opens_commands_and_its_absence_is_told_as_http_does() -> None:
    async with listening(access=Access(token="s3cret-token")) as client:
        async with client.put("/-/loglevel", data="debug") as without:
            pass
        async with client.put("/-/loglevel", data="debug", headers={"Authorization": "Bearer s3cret-token"}) as with_it:
            pass

    assert (without.status, without.headers["WWW-Authenticate"]) == (401, 'Bearer realm="oci-sync"')
    assert with_it.status == 200


async def test_the_log_level_changes_without_a_restart() -> None:
    async with listening() as client, client.put("/-/loglevel", data="debug\n") as answer:
        assert await answer.json() == {"level": "DEBUG"}

    assert logging.getLogger().level == logging.DEBUG


@pytest.mark.parametrize(("body", "code"), [(b"loud", 400), (b"", 400), (b"\xff\xfe", 400), (b"x" * 100_000, 413)])
async def test_a_bad_log_level_is_refused_and_a_large_body_is_not_read(body: bytes, code: int) -> None:
    before = logging.getLogger().level

    async with listening() as client, client.put("/-/loglevel", data=body) as answer:
        assert answer.status == code

    assert logging.getLogger().level == before


async def test_an_address_that_is_taken_is_a_config_error_and_leaves_nothing_open() -> None:
    faces = Faces(status(), Telemetry(), lambda: NOW)
    async with serve("127.0.0.1:0", faces) as url:
        with pytest.raises(ConfigError, match=r"http\.address"):
            async with serve(url.removeprefix("http://"), faces):
                pass


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:8090", ("127.0.0.1", 8090)), ("[::1]:0", ("::1", 0)), (":80", ("", 80)), ("host:1", ("host", 1))],
)
def test_an_address_is_split(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["", "8090", "host", "host:", "host:http", "::1:80", "h:65536", "h:-1", "h:８０"])
def test_a_malformed_address_is_a_config_error(address: str) -> None:
    with pytest.raises(ConfigError):
        split_address(address)


def test_the_template_stands_beside_its_module() -> None:
    assert (Path(__file__).parents[2] / "connector/server/status_page.html").is_file()
