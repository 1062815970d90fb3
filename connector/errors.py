"""The tree of errors; every failure a user can meet is one of these.

    OciSyncError
    ├── ConfigError        what the user wrote: flow file, worker file, a task's fields
    ├── CredentialsError   credential files, helpers, token realms
    ├── RegistryError      what a registry answered, or did not
    ├── IntegrityError     bytes that are not what their descriptor promised
    ├── LayerError         layers that cannot become files
    ├── OutputError        Kafka and the schema registry
    ├── SinkError          scripts, templates, stores
    └── TickTimeout        a tick that did not end in time

Rules. (1) An error says what was being done, what came back, what to do and who can do it. (2) `reason` is one
CamelCase word out of the class's table; the same word stands in log, metric, status and `docs/errors.md`.
(3) `transient` says whether trying again within the tick can help; the table holds the usual answer, the place
that raises may know better. (4) No secret reaches an error: callers pass redacted text only.
"""

from typing import ClassVar


class OciSyncError(Exception):
    """A failure with its facts (doing, cause, remedy) and its verdicts (reason, transient, retry_after).

    `retry_after` is in seconds, None where nobody named a time. `str(error)` is one line.
    """

    reasons: ClassVar[dict[str, bool]] = {}  # reason → transient, unless the place that raises knows better

    def __init__(
        self,
        *,
        reason: str,
        doing: str,
        cause: str,
        remedy: str,
        transient: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        if reason not in self.reasons:
            raise ValueError(f"{type(self).__name__} has no reason {reason!r}; it knows {sorted(self.reasons)}")
        self.reason = reason
        self.doing = doing
        self.cause = cause
        self.remedy = remedy
        self.transient = self.reasons[reason] if transient is None else transient
        self.retry_after = retry_after
        super().__init__(doing, cause, remedy)

    def __str__(self) -> str:
        return " ".join(f"{self.doing}: {self.cause} ({self.remedy})".split())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.reason} {'transient' if self.transient else 'permanent'}: {self}>"


class ConfigError(OciSyncError):
    """What the user wrote cannot be used; found before anything runs."""

    reasons: ClassVar[dict[str, bool]] = {
        "FileUnreadable": False,
        "BadYaml": False,
        "UnknownField": False,
        "UnknownTask": False,
        "MissingField": False,
        "BadValue": False,
        "UnknownVariable": False,
        "DuplicateName": False,
        "DuplicateArtifact": False,
        "Cycle": False,
    }


class CredentialsError(OciSyncError):
    """Credentials cannot be read, or may not be sent where the registry asks."""

    reasons: ClassVar[dict[str, bool]] = {
        "CredentialsUnreadable": False,
        "HelperFailed": False,
        "RealmRefused": False,
    }


class RegistryError(OciSyncError):
    """The registry did not answer, or answered something that cannot be used."""

    reasons: ClassVar[dict[str, bool]] = {
        "Unreachable": True,
        "ServerFailure": True,
        "RateLimited": True,
        "TooSlow": True,
        "NotARegistry": True,
        "Unauthorized": False,
        "Forbidden": False,
        "NotFound": False,
        "RequestRefused": False,
        "ManifestInvalid": False,
        "ManifestTooLarge": False,
        "PlatformMissing": False,
        "RedirectRefused": False,
        "TagMoved": True,
    }


class IntegrityError(OciSyncError):
    """Received bytes differ from what was promised. Tried once more within the tick, then permanent."""

    reasons: ClassVar[dict[str, bool]] = {
        "DigestMismatch": True,
        "SizeMismatch": True,
    }


class LayerError(OciSyncError):
    """The layers of a manifest cannot become files; only a new push helps, or another setting of the task."""

    reasons: ClassVar[dict[str, bool]] = {
        "NotText": False,
        "UnsafePath": False,
        "TooLarge": False,
        "BrokenArchive": False,
        "DuplicatePath": False,
        "EmptyArtifact": False,
        "SpoolFailed": True,
    }


class OutputError(OciSyncError):
    """Kafka or the schema registry refused, vanished, or fenced us."""

    reasons: ClassVar[dict[str, bool]] = {
        "KafkaUnreachable": True,
        "KafkaRefused": True,
        "Fenced": True,
        "NotOwner": True,
        "RecordTooLarge": False,
        "TopicMissing": False,
        "TopicMisfit": False,
        "NotAuthorized": False,
        "SchemaRejected": False,
        "SchemaRegistryUnreachable": True,
        "RestoreStalled": True,
        "OffsetLost": False,
        "OffsetInvalid": False,
        "RecordInvalid": False,
        "GroupInUse": False,
    }


class SinkError(OciSyncError):
    """The sink half could not turn a snapshot into writes, or a store refused them."""

    reasons: ClassVar[dict[str, bool]] = {
        "TemplateFailed": False,
        "ScriptFailed": False,
        "KeyInvalid": False,
        "DuplicateKey": False,
        "SnapshotTooLarge": False,
        "SnapshotIncomplete": True,
        "WouldDeleteEverything": False,
        "ValueTooLarge": False,
        "StoreUnreachable": True,
        "StoreRefused": False,
        "StoreConflict": True,
    }


class TickTimeout(OciSyncError):
    """The tick did not end within the task's `timeout`."""

    reasons: ClassVar[dict[str, bool]] = {"DeadlineExceeded": True}


CLASSES: tuple[type[OciSyncError], ...] = (
    ConfigError,
    CredentialsError,
    RegistryError,
    IntegrityError,
    LayerError,
    OutputError,
    SinkError,
    TickTimeout,
)
