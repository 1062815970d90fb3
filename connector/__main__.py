"""`python -m connector`, and the command `oci-sync`."""

import gc
import logging
import os
import sys
import threading
from time import monotonic

from connector.cli import execute

# Imports leave 100,000 objects that stay; looking through them again and again would cost a fifth of the start. What
# runs for long has the collector look more often, and at what is new (`allocator.py`).
_OBJECTS_OF_IMPORTS = 200_000
# A call of librdkafka that never comes back (its waits go by the wall clock, which may be set back) holds its thread,
# and the interpreter would wait for it. By now all is closed that has an end.
_THREADS_SECONDS = 10.0

_LOG = logging.getLogger(__name__)


def main() -> None:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(_OBJECTS_OF_IMPORTS, 20, 20)
    # A plugin would see every value that our models check, passwords among them; the search for some takes 5 ms.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        code = execute(sys.argv[1:])
    finally:
        gc.freeze()  # nothing to look for at the end: the interpreter would search all objects, three times, for 0.1 s
    leave(code)


def leave(code: int, seconds: float = _THREADS_SECONDS) -> None:
    """End the process with this code, whatever threads still do after so many seconds."""
    deadline = monotonic() + seconds
    others = [one for one in threading.enumerate() if one is not threading.current_thread() and not one.daemon]
    for thread in others:
        thread.join(max(0.0, deadline - monotonic()))
    stuck = [thread.name for thread in others if thread.is_alive()]
    if stuck:
        _LOG.warning("%d calls have not come back, the process ends without them: %s", len(stuck), ", ".join(stuck))
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
