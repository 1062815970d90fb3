"""The registry's access log: how many requests our client made."""

from pathlib import Path


class RequestCount:
    """Counts the requests since the last look, by the lines of the access log that name our user agent."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._position = log.stat().st_size

    def new(self) -> list[str]:
        """`METHOD path` of each request that ended since the last look."""
        with self._log.open("rb") as log:
            log.seek(self._position)
            lines = log.read().decode("utf-8", "replace").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        self._position += sum(len(line.encode()) for line in whole)
        # The access log is in Apache's combined format; the registry's own lines beside it begin with `time=`.
        ours = (line for line in whole if not line.startswith("time=") and '"oci-sync/' in line)
        return [line.split('"')[1].rpartition(" HTTP/")[0] for line in ours]
