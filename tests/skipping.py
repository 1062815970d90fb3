"""What a test does where a tool is missing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tools.stack.problem import ToolMissing


@contextmanager
def or_skip() -> Iterator[None]:
    """Skip where a tool is missing and say what to install; on a build server fail, since nobody reads skips there."""
    try:
        yield
    except ToolMissing as missing:
        if os.environ.get("CI") == "true" or os.environ.get("OCI_SYNC_REQUIRE_ALL") == "1":
            raise
        pytest.skip(str(missing))
