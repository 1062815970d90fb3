"""How the process begins and ends."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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

_FLOW = """
flow:
  name: files
  tasks:
    - generate: {name: tick, interval: 1h}
    - oci_sync: {name: pull, artifact: localhost/files:prod, topic: files}
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


def test_no_plugin_of_another_package_sees_what_the_configuration_holds(tmp_path: Path) -> None:
    (tmp_path / "listening.py").write_text("from pathlib import Path\nPath(__file__).with_name('heard').touch()\n")
    package = tmp_path / "listening-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: listening\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[pydantic]\nlistening = listening\n")
    (tmp_path / "flow.yaml").write_text(_FLOW)

    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "connector",
            "topics",
            "acls",
            "--principal",
            "User:worker",
            str(tmp_path / "flow.yaml"),
        ],
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "--topic files" in result.stdout
    assert not (tmp_path / "heard").exists()
