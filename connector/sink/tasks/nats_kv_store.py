"""`nats_kv_store`: a bucket of NATS JetStream's key-value store.

Rules. (1) One connection, made at the first call and thrown away after a failure of it; the credentials file is read
again each time, so a rotated one is used. A bucket that somebody deletes meanwhile is made anew by the next call.
(2) A put names the revision that it replaces, so a value that somebody else wrote meanwhile is not overwritten unseen:
StoreConflict, and the next look compares anew. (3) What the server says beside an answer (a permission it refuses shows
up as a time-out only) becomes part of the error.
"""

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from pydantic import Field, field_validator

from connector.config.task import LocalPath
from connector.errors import OciSyncError, SinkError
from connector.sink.nats_errors import api_error, bucket_gone, bucket_missing, connection_error, is_bucket_gone
from connector.sink.nats_login import client, login, tls_context
from connector.sink.operation import StoreFields, check_store
from connector.sink.parts import Parts
from connector.sink.store import Entry, Store
from connector.sink.store_parts import check_url, conflict, optional

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

# Keys as NATS takes them (ADR-8), and no empty token, which the server refuses as a subject.
_KEY = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*\Z")
_PREFIX = re.compile(r"[-/_=.a-zA-Z0-9]*\Z")
# A value has neither header: the first marks a delete or purge, the second what the server removed by age.
_DELETED = frozenset({"KV-Operation", "Nats-Marker-Reason"})
_BUCKET = r"^[-_a-zA-Z0-9]{1,200}$"
_HEADER_BYTES = 200  # what a conditional put adds to the payload that max_payload counts
_ANSWER_SECONDS = 10.0
_LIST_SECONDS = 30.0  # silence between two entries of a list


class Fields(StoreFields):
    """A NATS key-value bucket."""

    url: str = Field(
        "nats://127.0.0.1:4222",
        description="Servers, `nats://` or `tls://`, several separated by commas. No credentials here.",
    )
    bucket: str = Field(pattern=_BUCKET, description="Name of the bucket.")
    create_bucket: bool = Field(True, description="Create the bucket if it is missing.")
    replicas: int = Field(1, ge=1, le=5, description="Replicas of a bucket that is created.")
    credentials_path: LocalPath | None = Field(
        None, description="A `.creds` file, or JSON with `user` and `password`, or `token`. Anonymous without it."
    )
    ca_file: LocalPath | None = Field(None, description="PEM bundle to trust instead of the system's.")
    client_cert: LocalPath | None = Field(None, description="PEM certificate for mutual TLS.")
    client_key: LocalPath | None = Field(None, description="PEM key of `client_cert`, if it is not in the same file.")

    @field_validator("url")
    @classmethod
    def _servers(cls, url: str) -> str:
        for server in url.split(","):
            check_url(server.strip(), ("nats", "tls"))
        return url


class NatsKvStore:
    """One bucket. Not for two event loops."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._where = f"bucket {fields.bucket} at {fields.url}"
        self._client: Any = None  # nats.aio.client.Client; the package is an optional extra
        self._bucket: Any = None  # nats.js.kv.KeyValue
        self._largest: int | None = None
        self._heard = ""

    def __repr__(self) -> str:
        return f"<NatsKvStore {self._where} {'connected' if self._client else 'not connected'}>"

    def check(self, key: str, value: bytes) -> None:
        """The size is known once connected."""
        _check_key(key)
        if self._largest is not None and len(value) > self._largest:
            raise SinkError(
                reason="ValueTooLarge",
                doing=f"writing {key} to {self._where}",
                cause=f"the value has {len(value)} bytes, and the server takes {self._largest}",
                remedy="raise max_payload of the server, or the bucket's largest value (operator), or publish less",
            )

    async def list(self, prefix: str) -> Mapping[str, Entry]:
        """One ordered consumer over the newest value of each key."""
        found = await self._watched(prefix, values=True)
        return {key: Entry(value, revision) for key, (value, revision) in found.items()}

    async def keys(self, prefix: str) -> frozenset[str]:
        """As `list`, but headers only."""
        return frozenset(await self._watched(prefix, values=False))

    async def get(self, key: str) -> Entry | None:
        """The newest value; None also where it was deleted."""
        _check_key(key)
        import nats.js.errors

        async def read() -> Entry | None:
            try:
                found = await (await self._open()).get(key)
            except nats.js.errors.KeyNotFoundError:
                return None
            return Entry(found.value or b"", found.revision)

        return await self._asked(f"reading {key}", read())

    async def put(self, key: str, value: bytes, replaced: Entry | None) -> None:
        """Conditional on the revision."""
        self.check(key, value)

        async def write() -> None:
            bucket = await self._open()
            self.check(key, value)
            if replaced is None:
                await bucket.create(key, value)
            else:
                await bucket.update(key, value, last=replaced.revision)

        await self._asked(f"writing {key}", write())

    async def delete(self, key: str, replaced: Entry) -> None:
        """A delete marker, conditional on the revision."""
        _check_key(key)

        async def remove() -> None:
            await (await self._open()).delete(key, last=replaced.revision)

        await self._asked(f"deleting {key}", remove())

    async def probe(self) -> str:
        """Log in, and look for the bucket without creating it."""
        import nats.js.errors

        async def look() -> str:
            if self._client is None or not self._client.is_connected:
                self._client = await self._log_in()
            try:
                await self._client.jetstream(timeout=_ANSWER_SECONDS / 2).stream_info(f"KV_{self._fields.bucket}")
            except nats.js.errors.NotFoundError as error:
                if not self._fields.create_bucket:
                    raise bucket_missing(self._where) from error
                return f"{self._where} does not exist yet; run creates it"
            return f"{self._where} answers"

        return await self._asked("looking", look())

    async def close(self) -> None:
        """Close the connection."""
        client, self._client, self._bucket = self._client, None, None
        if client is not None:
            # The connection may be half dead; nothing is waiting in it that matters, every write was answered.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await client.close()

    async def _watched(self, prefix: str, *, values: bool) -> dict[str, tuple[bytes, int]]:
        if not _PREFIX.match(prefix):
            raise _key_invalid(prefix, "as a prefix")

        from nats.js.api import DeliverPolicy

        async def read() -> dict[str, tuple[bytes, int]]:
            await self._open()
            # A subject filter ends at a dot; what lies between the dot and the end of the prefix is compared here.
            subjects = f"$KV.{self._fields.bucket}.{prefix[: prefix.rfind('.') + 1]}>"
            newest = await self._client.jetstream(timeout=_ANSWER_SECONDS / 2).subscribe(
                subjects,
                stream=f"KV_{self._fields.bucket}",
                ordered_consumer=True,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                headers_only=not values,
            )
            try:
                return await _read_all(newest, f"$KV.{self._fields.bucket}.", prefix)
            finally:
                await newest.unsubscribe()

        return await self._asked(f"listing {prefix or 'everything'}", read(), seconds=None)

    async def _asked(self, doing: str, answer: Awaitable[T], seconds: float | None = _ANSWER_SECONDS) -> T:
        """The answer, its errors in our words; the connection is thrown away where it may be the cause."""
        import nats.errors
        import nats.js.errors

        doing = f"{doing} in {self._where}"
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except OciSyncError:
            raise
        except nats.js.errors.KeyWrongLastSequenceError as error:
            raise conflict(doing) from error
        except nats.js.errors.APIError as error:
            if is_bucket_gone(error):
                self._bucket = None
                raise bucket_gone(doing) if self._fields.create_bucket else bucket_missing(self._where) from error
            raise api_error(doing, error) from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            heard, self._heard = self._heard, ""
            await self.close()
            raise connection_error(doing, error, heard) from error

    async def _open(self) -> Any:
        """The bucket, connected to."""
        if self._bucket is None or not self._client.is_connected:
            await self.close()
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._connect()
        return self._bucket

    async def _connect(self) -> None:
        self._client = await self._log_in()
        self._bucket = await self._find_bucket()
        info = await self._client.jetstream().stream_info(f"KV_{self._fields.bucket}")
        limits = [self._client.max_payload - _HEADER_BYTES, info.config.max_msg_size or 0]
        self._largest = min(limit for limit in limits if limit > 0)
        _LOG.debug("connected to %s", self._where)

    async def _log_in(self) -> Any:
        tls = self._tls()
        connecting = client(needs_tls=tls is not None)
        await connecting.connect(
            [server.strip() for server in self._fields.url.split(",")],
            name="oci-sync",
            allow_reconnect=False,  # a call that fails makes a new connection; nothing waits in a queue meanwhile
            max_reconnect_attempts=1,
            connect_timeout=int(_ANSWER_SECONDS / 2),
            error_cb=self._hear,
            tls=tls,
            **login(self._fields.credentials_path),
        )
        return connecting

    async def _find_bucket(self) -> Any:
        import nats.js.errors
        from nats.js.api import KeyValueConfig

        jetstream = self._client.jetstream(timeout=_ANSWER_SECONDS / 2)
        try:
            return await jetstream.key_value(self._fields.bucket)
        except nats.js.errors.BucketNotFoundError as error:
            if not self._fields.create_bucket:
                raise bucket_missing(self._where) from error
        config = KeyValueConfig(bucket=self._fields.bucket, history=1, replicas=self._fields.replicas)
        return await jetstream.create_key_value(config)

    def _tls(self) -> ssl.SSLContext | None:
        fields = self._fields
        if not (fields.ca_file or fields.client_cert or "tls://" in fields.url):
            return None
        return tls_context(fields.ca_file, fields.client_cert, fields.client_key)

    async def _hear(self, error: Exception) -> None:
        self._heard = str(error)[:300]


def build(fields: Fields, parts: Parts) -> Store:
    """The bucket of one task; touches no network. Raises ConfigError where the extra is not installed."""
    optional("nats", package="nats-py", extra="nats", doing=f"building the task {fields.name}")
    return NatsKvStore(fields)


def check(fields: Fields) -> list[str]:
    """What is wrong with the key's template."""
    return check_store(fields)


async def _read_all(newest: Any, bucket: str, prefix: str) -> dict[str, tuple[bytes, int]]:
    """What an ordered consumer over the newest value of each key has to say until nothing is pending.

    The client's own `watch` may call a bucket empty while its messages are on their way: it takes "nothing pending,
    nothing handled yet" for the end. The server knows how many it sent, and that is asked here.
    """
    info = await newest.consumer_info()
    is_done = not (info.num_pending + info.delivered.consumer_seq)
    found: dict[str, tuple[bytes, int]] = {}
    while not is_done:
        message = await newest.next_msg(timeout=_LIST_SECONDS)
        key = message.subject.removeprefix(bucket)
        if key.startswith(prefix):
            found.pop(key, None)
            if not _DELETED.intersection(message.headers or ()):
                found[key] = (message.data, message.metadata.sequence.stream)
        is_done = message.metadata.num_pending == 0
    return found


def _check_key(key: str) -> None:
    if not _KEY.match(key):
        raise _key_invalid(key, "as a key")


def _key_invalid(key: str, what: str) -> SinkError:
    return SinkError(
        reason="KeyInvalid",
        doing=f"using {key[:200]!r} {what}",
        cause="NATS takes letters, digits and -/_=. without a dot at either end or two in a row",
        remedy="mend the template of the key (operator), or the file that it reads (publisher)",
    )
