"""Docker's credential helpers: programs named `docker-credential-<name>` that tell a user name and a secret.

Follows github.com/docker/docker-credential-helpers: `get` as the only argument, the registry on standard input, JSON on
standard output. A helper that says "credentials not found" means: none, ask without. It gets 30 s and 64 KiB.
"""

import asyncio
import contextlib
import shutil

from connector.errors import CredentialsError
from connector.oci.secret import Credential, Secret
from connector.oci.strict_json import parse_json

_MAX_OUTPUT_BYTES = 64 << 10
_MAX_SECONDS = 30.0
_TOKEN_USER = "<token>"  # noqa: S105 - a user name; it says that the secret is an OAuth2 refresh token


async def credential(name: str, key: str, max_seconds: float = _MAX_SECONDS) -> Credential | None:
    """What the helper of that name (checked by who read it from a file) knows of the key; None if nothing.

    Raises CredentialsError HelperFailed. The helper's output is never quoted.
    """
    program = shutil.which(f"docker-credential-{name}")
    if program is None:
        raise _failed(name, key, "no such program is on the PATH")
    try:
        async with asyncio.timeout(max_seconds):
            status, output = await _run(program, key)
    except TimeoutError:
        raise _failed(name, key, f"it did not end within {max_seconds:.0f} s") from None
    except OSError as error:
        raise _failed(name, key, error.strerror or "it cannot be run") from error
    if len(output) > _MAX_OUTPUT_BYTES:
        raise _failed(name, key, f"it printed more than {_MAX_OUTPUT_BYTES} bytes")
    if status != 0:
        if b"credentials not found" in output:
            return None
        raise _failed(name, key, f"it ended with exit code {status}")
    return _read(name, key, output)


async def _run(program: str, key: str) -> tuple[int, bytes]:
    process = await asyncio.create_subprocess_exec(
        program,
        "get",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(key.encode())
            await process.stdin.drain()
        process.stdin.close()
        output = b""
        while len(output) <= _MAX_OUTPUT_BYTES and (chunk := await process.stdout.read(_MAX_OUTPUT_BYTES)):
            output += chunk
        if len(output) <= _MAX_OUTPUT_BYTES:
            await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, output


def _read(name: str, key: str, output: bytes) -> Credential | None:
    try:
        document = parse_json(output.strip())
    except ValueError:
        raise _failed(name, key, "it did not print JSON") from None
    username = document.get("Username") if isinstance(document, dict) else None
    secret = document.get("Secret") if isinstance(document, dict) else None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise _failed(name, key, "what it printed has no Username and Secret")
    if not secret:
        return None
    entry = f"the helper docker-credential-{name}"
    if username == _TOKEN_USER:
        return Credential(entry, identity_token=Secret(secret))
    return Credential(entry, username, Secret(secret))


def _failed(name: str, key: str, cause: str) -> CredentialsError:
    return CredentialsError(
        reason="HelperFailed",
        doing=f"asking docker-credential-{name} for {key[:100]}",
        cause=cause,
        remedy="install it where the worker runs, or put the credentials into the file itself (operator)",
    )
