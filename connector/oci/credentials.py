"""The credentials of one file: read when it changes, matched to a reference, helpers asked.

Rules. (1) The file is looked at before each use, and read again when its inode, size or time changed: a rotated secret
needs no restart. (2) While it cannot be read (half-written, swapped, no permission) the last good state is used, with a
warning, once a change. (3) Helpers are asked through `helper_answers.py`, which all sources of a process share.
"""

import logging
from pathlib import Path

from connector.errors import CredentialsError
from connector.oci.clock import SystemClock
from connector.oci.credential_file import MAX_FILE_BYTES, CredentialFile, Entry, Helper, parse_credentials
from connector.oci.helper_answers import HelperAnswers
from connector.oci.reference import Reference
from connector.oci.secret import Credential

_LOG = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]


class Credentials:
    """What may be used for a reference, out of one file. `path` None: nothing, everything is anonymous."""

    def __init__(self, path: Path | None, helpers: HelperAnswers | None = None) -> None:
        self._path = path
        self._helpers = helpers or HelperAnswers(SystemClock())
        self._stamp: _Stamp | None = None
        self._file: CredentialFile | None = None

    def __repr__(self) -> str:
        return f"<Credentials {self._path or 'anonymous'}>"

    async def candidates(self, reference: Reference, *, anew: bool = False) -> tuple[Credential, ...]:
        """The credentials to try, best first; empty means anonymous. `anew`: the last ones were refused, ask again.

        Raises CredentialsError CredentialsUnreadable, HelperFailed where nothing that fits can be used.
        """
        file = self._read()
        found: list[Credential] = []
        failed: CredentialsError | None = None
        for match in file.matches(reference):
            try:
                if isinstance(match, Helper):
                    ask = self._helpers.ask_if_it_works if found else self._helpers.ask
                    credential = await ask(match, anew=anew)
                else:
                    credential = self._usable(match)
            except CredentialsError as error:
                failed = failed or error
                continue
            if credential is not None:
                found.append(credential)
        if failed is not None and not found:
            raise failed
        return tuple(found)

    def told(self, candidates: tuple[Credential, ...], host: str) -> str:
        """Which login a request had, for the message about its refusal; no secret in it."""
        if self._path is None:
            return "asked anonymously, for the task has no credentials_path"
        if not candidates:
            return f"asked anonymously, for no entry of {self._path} is for {host}"
        names = [f"{one.entry!r}" + (f" (user {one.username!r})" if one.username else "") for one in candidates]
        return f"asked with the entry {', '.join(names)} of {self._path}"

    def _usable(self, entry: Entry) -> Credential:
        if entry.credential is None:
            raise self._unreadable(entry.problem)
        return entry.credential

    def _read(self) -> CredentialFile:
        if self._path is None:
            return CredentialFile()
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if stamp == self._stamp and self._file is not None:
                return self._file
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
            parsed = parse_credentials(data)
        except (OSError, ValueError) as error:
            return self._last_good(error)
        self._file, self._stamp = parsed, stamp
        return parsed

    def _last_good(self, error: OSError | ValueError) -> CredentialFile:
        cause = (error.strerror or "it cannot be read") if isinstance(error, OSError) else str(error)
        if self._file is None:
            raise self._unreadable(cause) from error
        if self._stamp is not None:  # say it once, not at every tick
            self._stamp = None
            _LOG.warning("credentials %s cannot be read (%s); the last good ones are used", self._path, cause)
        return self._file

    def _unreadable(self, cause: str) -> CredentialsError:
        return CredentialsError(
            reason="CredentialsUnreadable",
            doing=f"reading the credentials {self._path}",
            cause=cause,
            remedy='a docker config.json or {"username": …, "password": …} is needed there (operator)',
        )
