"""The wall clock of a worker, and of nobody else, that a test sets: see clock.c."""

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


class WallClock:
    """Shifts the time of day for processes started with `env`. Raises FileNotFoundError without a C compiler."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise FileNotFoundError("a C compiler is needed to build the clock's shim (Debian: apt-get install gcc)")
        folder.mkdir(parents=True, exist_ok=True)
        library = folder / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"], check=True)
        self._shift = folder / "shift"
        self._shift.write_bytes(struct.pack("q", 0))
        self.env: Mapping[str, str] = {"LD_PRELOAD": str(library), "OCI_SYNC_TEST_CLOCK": str(self._shift)}

    def set(self, seconds: float) -> None:
        """From now on the clock is wrong by so many seconds. The eight bytes are mapped, so they change in place."""
        with self._shift.open("r+b") as file:
            file.write(struct.pack("q", int(seconds * 1e9)))
