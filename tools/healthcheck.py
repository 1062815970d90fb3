"""The container's health: exit code 0 when the worker is well, 1 when it is not, with the reason on standard output.

Asks the worker where OCI_SYNC_HEALTH_URL says (its /healthz). Without that variable the worker has no listener, and
all that can be seen from outside is whether process 1 runs, or is frozen or dead.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def problem_of_listener(url: str) -> str:
    """What is wrong with the worker that listens at `url`; empty when it is well."""
    if not url.startswith(("http://", "https://")):
        return f"OCI_SYNC_HEALTH_URL is {url!r}; it begins with http:// or https://"
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
    url = os.environ.get("OCI_SYNC_HEALTH_URL", "")
    problem = problem_of_listener(url) if url else problem_of_process(Path("/proc/1/stat").read_text(encoding="utf-8"))
    print(problem or "well")
    sys.exit(1 if problem else 0)


if __name__ == "__main__":
    main()
