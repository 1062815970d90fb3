"""A fake registry, hosts on each transport, and a clock that makes retries take no time."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from connector.http_client import TransportName
from connector.oci.hosts import Hosts
from connector.oci.retry import RetryPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.registry import PASSWORD, FakeRegistry

RETRY = RetryPolicy(max_attempts=3, initial_backoff=timedelta(seconds=1))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    """A second server, so another origin."""
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["aiohttp", "httpx"])
def transport(request: pytest.FixtureRequest) -> TransportName:
    return cast("TransportName", request.param)


@pytest_asyncio.fixture
async def hosts(transport: TransportName, clock: FakeClock) -> AsyncIterator[Hosts]:
    async with Hosts(transport=transport, clock=clock, environment_proxies=False) as opened:
        yield opened


@pytest.fixture
def login(tmp_path: Path) -> Path:
    """A credentials file that the fake accepts."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"username": "ci", "password": PASSWORD}))
    return path
