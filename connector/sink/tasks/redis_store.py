"""`redis_store`: strings of Redis or Valkey (one server; no cluster).

Rules. (1) Keys of other types are not seen and never touched. (2) A put or delete names the value that it replaces and
is done by the server in one step, so a value that somebody else wrote meanwhile stays: StoreConflict. (3) A list is a
SCAN, so it sees every key that is there from beginning to end.
"""

import contextlib
import json
import re
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from connector.config.task import LocalPath
from connector.errors import CredentialsError, SinkError
from connector.sink.operation import StoreFields, check_store
from connector.sink.parts import Parts
from connector.sink.store import Entry, Store
from connector.sink.store_parts import check_url, conflict, optional
from connector.telemetry import SECRETS

T = TypeVar("T")

_ANSWER_SECONDS = 10.0
_BATCH = 500
_LARGEST = 512_000_000  # proto-max-bulk-len's default is 512 MiB
# KEYS[1] is the key, ARGV[1] the value it must hold, ARGV[2] the new one; 0: another writer was faster.
_REPLACE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0"
_REMOVE = (
    "local held = redis.call('GET', KEYS[1]) if held == false then return 1 end "
    "if held == ARGV[1] then redis.call('DEL', KEYS[1]) return 1 end return 0"
)


class Fields(StoreFields):
    """A Redis or Valkey server."""

    url: str = Field(
        "redis://127.0.0.1:6379/0", description="`redis://host:port/database`, or `rediss://` for TLS. No credentials."
    )
    credentials_path: LocalPath | None = Field(
        None, description="JSON with `password` and, for ACL users, `username`. Anonymous without it."
    )
    ca_file: LocalPath | None = Field(
        None, description="PEM bundle to trust instead of the system's; the address is `rediss://` then."
    )

    @model_validator(mode="after")
    def _authority_of_tls(self) -> Self:
        if self.ca_file and not self.url.startswith("rediss://"):
            raise ValueError("ca_file needs an address with rediss://, or the connection would be in the clear")
        return self

    @field_validator("url")
    @classmethod
    def _server(cls, url: str) -> str:
        check_url(url, ("redis", "rediss"))
        if "?" in url:
            raise ValueError("should be redis://host:port/database or rediss://…")
        return url


class RedisStore:
    """One database of one server."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._client: Any = None  # redis.asyncio.Redis; the package is an optional extra

    def __repr__(self) -> str:
        return f"<RedisStore {self._fields.url}>"

    def check(self, key: str, value: bytes) -> None:
        """Any text but the empty one is a key."""
        if not key:
            raise SinkError(
                reason="KeyInvalid",
                doing=f"writing to {self._fields.url}",
                cause="the key is empty",
                remedy="mend the template of the key (operator)",
            )
        if len(value) > _LARGEST:
            raise SinkError(
                reason="ValueTooLarge",
                doing=f"writing {key[:200]!r} to {self._fields.url}",
                cause=f"the value has {len(value)} bytes, and Redis takes {_LARGEST}",
                remedy="publish less (publisher)",
            )

    async def list(self, prefix: str) -> Mapping[str, Entry]:
        """SCAN, then MGET."""
        names = sorted(await self.keys(prefix))
        found: dict[str, Entry] = {}
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            values = await self._asked("reading keys", self._open().mget(batch))
            found.update({key: Entry(value) for key, value in zip(batch, values, strict=True) if value is not None})
        return found

    async def keys(self, prefix: str) -> frozenset[str]:
        """SCAN of strings; names that are not UTF-8 are nobody's we know."""
        pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix) + "*"

        async def scan() -> frozenset[str]:
            names: set[str] = set()
            async for name in self._open().scan_iter(match=pattern.encode(), count=_BATCH, _type="STRING"):
                with contextlib.suppress(UnicodeDecodeError):
                    names.add(name.decode("utf-8"))
            return frozenset(names)

        return await self._asked(f"listing {prefix or 'everything'}", scan())

    async def get(self, key: str) -> Entry | None:
        """GET."""
        value = await self._asked(f"reading {key[:200]!r}", self._open().get(key))
        return None if value is None else Entry(value)

    async def put(self, key: str, value: bytes, replaced: Entry | None) -> None:
        """SET NX, or a script that compares first."""
        self.check(key, value)
        client = self._open()
        if replaced is None:
            done = await self._asked(f"writing {key[:200]!r}", client.set(key, value, nx=True))
        else:
            done = await self._asked(f"writing {key[:200]!r}", client.eval(_REPLACE, 1, key, replaced.value, value))
        if not done:
            raise conflict(f"writing {key[:200]!r} at {self._fields.url}")

    async def delete(self, key: str, replaced: Entry) -> None:
        """A script that compares first."""
        if not await self._asked(f"deleting {key[:200]!r}", self._open().eval(_REMOVE, 1, key, replaced.value)):
            raise conflict(f"deleting {key[:200]!r} at {self._fields.url}")

    async def probe(self) -> str:
        """PING."""
        await self._asked("asking for a sign of life", self._open().ping())
        return f"{self._fields.url} answers"

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            import redis.exceptions

            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                await client.aclose()

    async def _asked(self, doing: str, answer: Awaitable[T]) -> T:
        import redis.exceptions

        doing = f"{doing} at {self._fields.url}"
        try:
            return await answer
        except (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            await self.close()
            raise _refused(doing, str(error), "check credentials_path and the user's ACL (operator)") from error
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            await self.close()
            raise SinkError(
                reason="StoreUnreachable",
                doing=doing,
                cause=str(error) or type(error).__name__,
                remedy="check that Redis runs there, and the address and TLS settings (operator)",
            ) from error
        except redis.exceptions.RedisError as error:
            raise _refused(doing, str(error), "see what the server says (operator)") from error

    def _open(self) -> Any:
        if self._client is None:
            import redis.asyncio
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            tls: dict[str, Any] = {"ssl_ca_certs": str(self._fields.ca_file)} if self._fields.ca_file else {}
            self._client = redis.asyncio.Redis.from_url(
                self._fields.url,
                socket_timeout=_ANSWER_SECONDS,
                socket_connect_timeout=_ANSWER_SECONDS / 2,
                retry=Retry(NoBackoff(), 0),  # the pipeline tries again, and says so
                **tls,
                **_credentials(self._fields.credentials_path),
            )
        return self._client


def build(fields: Fields, parts: Parts) -> Store:
    """The database of one task; touches no network. Raises ConfigError where the extra is not installed."""
    optional("redis", package="redis", extra="redis", doing=f"building the task {fields.name}")
    return RedisStore(fields)


def check(fields: Fields) -> list[str]:
    """What is wrong with the key's template."""
    return check_store(fields)


def _refused(doing: str, cause: str, remedy: str) -> SinkError:
    return SinkError(reason="StoreRefused", doing=doing, cause=cause, remedy=remedy)


def _credentials(path: Path | None) -> dict[str, Any]:
    """The arguments that a credentials file stands for. Raises CredentialsError."""
    if path is None:
        return {}
    cause = "it holds no password"
    try:
        document = json.loads(path.read_text("utf-8"))
        given = {name: document[name] for name in ("username", "password") if name in document}
        if "password" in given and all(isinstance(value, str) for value in given.values()):
            SECRETS.add(given["password"])
            return given
    except OSError as error:
        cause = error.strerror or type(error).__name__
    except (ValueError, TypeError):
        cause = "it is not a JSON object"
    raise CredentialsError(
        reason="CredentialsUnreadable",
        doing=f"reading the Redis credentials {path}",
        cause=cause,
        remedy='give JSON such as {"username": ..., "password": ...} (operator)',
    )
