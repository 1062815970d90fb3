"""How the process ends."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from connector.__main__ import leave

_STUCK = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from connector.__main__ import leave
pool = ThreadPoolExecutor(1, thread_name_prefix="kafka")
pool.submit(time.sleep, 600)
pool.shutdown(wait=False)
print("said")
leave(3, seconds=0.2)
"""


def test_a_call_that_never_comes_back_does_not_hold_the_process() -> None:
    ended = subprocess.run([sys.executable, "-c", _STUCK], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 3
    assert ended.stdout == "said\n"
    assert "1 calls have not come back" in ended.stderr
    assert "kafka" in ended.stderr


def test_threads_that_end_in_time_are_waited_for() -> None:
    pool = ThreadPoolExecutor(1)
    done = pool.submit(sum, (1, 2))
    pool.shutdown(wait=False)

    with pytest.raises(SystemExit) as raised:
        leave(4)

    assert raised.value.code == 4
    assert done.done()
