"""The container's health: exit code 0 when the worker is well, 1 when it is not, with the reason on standard output.

Asks the worker's /healthz where OCI_SYNC_HTTP_ADDRESS lets it listen. Without that variable there may be no listener,
and all that can be seen from outside is whether process 1 runs, or is frozen or dead.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def health_url(address: str) -> str:
    """Where a worker that listens on `address` (host:port, as in its http.address) is asked from the same machine."""
    host, _, port = address.rpartition(":")
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
    return f"http://{everywhere.get(host, host)}:{port}/healthz"


def problem_of_listener(url: str) -> str:
    """What is wrong with the worker that listens at `url`; empty when it is well."""
    try:
        with urllib.request.urlopen(url, timeout=3):
            return ""
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors; a body may say more
        said = error.read(500).decode("utf-8", "replace") if isinstance(error, urllib.error.HTTPError) else ""
        return f"{url}: {error} {said}".strip()


def problem_of_process(stat: str) -> str:
    """What is wrong with a process whose /proc/<pid>/stat reads so; empty when it is well."""
    state = stat.rpartition(")")[2].split()[0]
    return {
        "T": "the worker is stopped by a signal",
        "t": "a debugger holds the worker",
        "Z": "the worker is dead",
    }.get(state, "")


def main() -> None:
    """Look once and end with the verdict."""
    address = os.environ.get("OCI_SYNC_HTTP_ADDRESS", "")
    if address:
        problem = problem_of_listener(health_url(address))
    else:
        problem = problem_of_process(Path("/proc/1/stat").read_text(encoding="utf-8"))
    print(problem or "well")
    sys.exit(1 if problem else 0)


if __name__ == "__main__":
    main()
