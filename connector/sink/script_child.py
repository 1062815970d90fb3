"""The process of a script, seen from outside: how it is started, how it ended, and what it says of a script's text.

Names are resolved when a script's top level runs, so a check runs it, as every run does; and the text may come from
anyone who can write a flow file. So it runs in a process of its own, with bounds on time and memory.
"""

import json
import signal
import subprocess
import sys
from datetime import timedelta
from functools import lru_cache
from typing import Final

# -I: neither the working directory nor PYTHON* variables choose what the process imports.
COMMAND: Final = (sys.executable, "-I", "-m", "connector.sink.script_process")

# Of CPU, from when the text is read: the definition of main and little else takes a millisecond, and whoever reads a
# flow file waits. Shorter where the task's own time is.
_LONGEST_CHECK: Final = timedelta(seconds=5)
# For the process to start and end on a machine that is busy with other things; it takes 0.13 s on an idle one.
_LONGEST_WAIT: Final = timedelta(seconds=30)


@lru_cache(maxsize=256)
def problems_of(code: str, timeout: timedelta, memory_bytes: int) -> tuple[str, ...]:
    """What is wrong with a script, each with its line; empty where it can run. Each text is asked once in a process.

    `timeout` and `memory_bytes` are the task's own; a check takes no more, nor more than five seconds of CPU.
    """
    seconds = min(timeout, _LONGEST_CHECK).total_seconds()
    request = {"code": code, "memory_bytes": memory_bytes, "check_seconds": seconds}
    try:
        ended = subprocess.run(  # noqa: S603  our own interpreter, and nothing of the script on its command line
            COMMAND,
            input=json.dumps(request).encode(),
            capture_output=True,
            env={},
            timeout=_LONGEST_WAIT.total_seconds(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (f"its check did not end within {_LONGEST_WAIT.total_seconds():g} s",)
    except OSError as error:
        return (f"its check could not be started: {error.strerror}",)
    if ended.returncode == -signal.SIGPROF:
        return (f"what stands outside of main did not end within {seconds:g} s; let main do the work",)
    if ended.returncode != 0:
        return (f"what stands outside of main cannot be run: {how_it_ended(ended.returncode, ended.stderr)}",)
    return tuple(map(str, json.loads(ended.stdout)["problems"]))


def how_it_ended(code: int | None, errors: bytes) -> str:
    """Why there is no answer, from the process's exit code and what it wrote to standard error."""
    if any(sign in errors for sign in (b"memory allocation", b"MemoryError", b"out of memory")):
        return "it ran out of memory"
    if code == -signal.SIGSEGV:
        return "it is nested too deeply"
    last = (errors.decode("utf-8", "replace").strip().splitlines() or [""])[-1][:300]
    return f"its process ended with {code}" + (f": {last}" if last else "")
