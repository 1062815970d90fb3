"""The points at which a test stops the process: nothing after one may happen before it is woken."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

_BUSY = """
import os, threading, time
from connector.faults import passing

def tick():
    passing("offsets_sent")
    os.write(1, b"ran on")

threading.Thread(target=tick).start()
for _ in range(2):
    threading.Thread(target=lambda: sum(range(10**9)), daemon=True).start()
time.sleep(60)
"""


@pytest.mark.parametrize("attempt", range(5))
def test_the_thread_that_passes_a_stop_point_goes_no_step_further(attempt: int) -> None:
    """A commit needs less than a switch of threads, so a stop that another thread takes comes too late."""
    env = {**os.environ, "OCI_SYNC_FAULT": "stop:offsets_sent"}
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdout=subprocess.PIPE, env=env) as process:
        try:
            _await_stop(process.pid)
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            assert process.stdout.read() is None

            process.send_signal(signal.SIGCONT)
            os.set_blocking(process.stdout.fileno(), True)
            assert process.stdout.read(6) == b"ran on"
        finally:
            process.kill()


def _await_stop(pid: int) -> None:
    deadline = monotonic() + 20
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert monotonic() < deadline, "the process was never stopped"
        sleep(0.001)
