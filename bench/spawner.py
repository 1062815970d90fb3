"""Starts measured processes and says what each of them cost; runs as a process of its own, without site-packages.

Why not from the benchmark itself: the kernel counts the peak memory of a process from its fork on, so a child of a
large parent reports the parent's. This one has 10 MB.

A line of JSON comes in (command, cwd, env, log), a line goes out (seconds, cpu_seconds, peak_kb, code).
"""

import json
import os
import subprocess
import sys
import time

_MOST_SECONDS = 300


def main() -> None:
    """Serve requests until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        with open(request["log"], "wb") as log:
            started = time.monotonic()
            process = subprocess.Popen(
                ["timeout", "--signal=KILL", str(_MOST_SECONDS), *request["command"]],
                cwd=request["cwd"], env=request["env"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        answer = {
            "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_kb": usage.ru_maxrss,
            "code": process.returncode,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
