"""Named points of a tick at which a test may kill or stop the process; silent unless the environment asks.

`OCI_SYNC_FAULT=kill:<point>` ends the process there as a power cut would; `stop:<point>` freezes it (SIGSTOP), as a
hypervisor does, the first time it is passed. Each point is passed in the order of POINTS. Only the system tests set the
variable.
"""

import os
import signal
import threading

POINTS = (
    "restored",
    "resolved",
    "fetched",
    "extracted",
    "producer_initialised",
    "transaction_begun",
    "records_sent",
    "offsets_sent",
    "committed",
    "revoked",
    "snapshot_assembled",
    "write_applied",
    "snapshot_applied",
)

_ACTION, _, _POINT = os.environ.get("OCI_SYNC_FAULT", "").partition(":")
_ARMED = {_POINT}


def passing(point: str) -> None:
    """Say that the process passes a point; does nothing unless the environment names it."""
    if point in _ARMED:
        _ARMED.clear()
        # To this thread: the kernel may hand a signal for the process to another, and this one runs on into a commit.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP if _ACTION == "stop" else signal.SIGKILL)
