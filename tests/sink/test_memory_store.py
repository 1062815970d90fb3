"""The fake store does what the real ones do."""

import pytest

from tests.sink.memory_store import MemoryStore
from tests.suites.store import ConditionalStoreSuite


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class TestMemoryStore(ConditionalStoreSuite):
    pass
