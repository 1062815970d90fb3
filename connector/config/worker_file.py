"""worker.yaml → Worker: what all flows share. Every setting has a default; without a file Kafka is at localhost:9092.

Rules. (1) A few settings may come from the environment (OVERRIDES); they win over the file, so that one image serves
every stage. The list is short and explicit: Kubernetes puts `OCI_SYNC_KAFKA_PORT=tcp://...` beside them for a service
of that name. (2) Every text may hold `{{env.NAME}}`. (3) A relative path starts at the directory of the file.
"""

import os
import re
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from connector.config.fields import Source, field_names, nested_models, passwords_in, read_fields
from connector.config.problem import ConfigProblems, Problem
from connector.config.task import LocalPath, RetryFields, Size, Strict, checked_by
from connector.config.variables import Variables
from connector.config.yaml_lines import Document, Node, read_yaml
from connector.errors import ConfigError
from connector.kafka.clients import check_properties
from connector.oci.mirrors import parse_mirror
from connector.oci.reference import parse_host
from connector.telemetry import SECRETS

Property: TypeAlias = str | int | float | bool

# Kafka's rule for names of topics and groups.
_NAME: Final = r"^[A-Za-z0-9._-]{1,200}$"
_BOOTSTRAP: Final = "bootstrap.servers"
_SYSTEM_SPOOL: Final = Path("/var/lib/oci-sync")
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):([0-9]{1,5})\Z")

_PROPERTY_SCHEMA: Final = {"type": ["string", "number", "boolean", "array"], "items": {"type": "string"}}

OVERRIDES: Final[dict[str, tuple[str, ...]]] = {
    "OCI_SYNC_KAFKA_BOOTSTRAP_SERVERS": ("kafka", "bootstrap.servers"),
    "OCI_SYNC_KAFKA_SECURITY_PROTOCOL": ("kafka", "security.protocol"),
    "OCI_SYNC_KAFKA_SASL_MECHANISM": ("kafka", "sasl.mechanism"),
    "OCI_SYNC_KAFKA_SASL_USERNAME": ("kafka", "sasl.username"),
    "OCI_SYNC_KAFKA_SASL_PASSWORD": ("kafka", "sasl.password"),
    "OCI_SYNC_KAFKA_SSL_CA_LOCATION": ("kafka", "ssl.ca.location"),
    "OCI_SYNC_GROUP": ("group",),
    "OCI_SYNC_GROUP_INSTANCE_ID": ("group_instance_id",),
    "OCI_SYNC_NAME": ("name",),
    "OCI_SYNC_HTTP_ADDRESS": ("http", "address"),
    "OCI_SYNC_SPOOL_DIRECTORY": ("spool", "directory"),
}
"""Environment variables that win over the file, with the setting each stands for."""


def _property(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ",".join(value)  # bootstrap.servers as a list is a natural thing to write
    if value is None or isinstance(value, dict | list):
        raise ValueError("should be a text, a number or true or false; a property is written flat: bootstrap.servers")
    return value


def _properties(properties: dict[str, Property]) -> dict[str, Property]:
    try:
        check_properties(properties)
    except ConfigError as error:
        raise ValueError(f"{error.cause} ({error.remedy})") from error
    return {_BOOTSTRAP: "localhost:9092", **properties}


def _address(text: str) -> str:
    match = _ADDRESS.match(text)
    if match is None or int(match[1]) > 65535:
        raise ValueError("should be host:port, such as 127.0.0.1:8090 or [::1]:8090")
    return text


def _without_user(url: str) -> str:
    if "@" in url:
        raise ValueError("should hold no user and password; put them into a file and name it in credentials_path")
    return url


class TopicsFields(Strict):
    """Topics of records and source offsets."""

    manage: Literal["create", "check"] = Field(
        "create", description="Create missing topics, or only check them where the platform team forbids creation."
    )
    partitions: int = Field(1, ge=1, le=10_000, description="Partitions of a flow's topic when it is created.")
    replication_factor: int = Field(
        -1, ge=-1, le=100, description="Replicas of created topics; `-1`: the broker's default."
    )


class OffsetsFields(Strict):
    """The topic of source offsets, whose partitions are the units of ownership."""

    topic: str = Field("oci-sync-offsets", pattern=_NAME, description="Name of the offsets topic.")
    partitions: int = Field(
        50, ge=1, le=10_000, description="Its partitions; fixed once created, for another number loses every offset."
    )


class HttpFields(Strict):
    """Probes, metrics, status page and triggers. No listener unless `address` is set."""

    address: Annotated[str, AfterValidator(_address)] | None = Field(
        None, description="`host:port` to listen on, for example `127.0.0.1:8090`."
    )
    allowed_hosts: tuple[str, ...] = Field((), description="Further public names that this listener goes by.")
    token_file: LocalPath | None = Field(
        None, description="File with the token that commands need; without it they are taken from this machine only."
    )


class SpoolFields(Strict):
    """Disk for blobs under way and the cache of blobs."""

    directory: LocalPath | None = Field(
        None,
        description="Where. Default: the first that can be written of `/var/lib/oci-sync`, `$XDG_STATE_HOME/oci-sync` "
        "(`~/.local/state/oci-sync`) and `oci-sync-<uid>` in the temporary directory.",
    )
    cache_size: Size = Field(1_000_000_000, description="Bytes of blobs kept for the next release; `0`: none.")


class SchemaRegistryFields(Strict):
    """The schema registry, for formats that need one."""

    url: Annotated[str, AfterValidator(_without_user)] = Field(
        pattern=r"^https?://[^\s?#]+$",
        max_length=2000,
        description="Its address, such as `http://registry:8081`; Apicurio's ends in `/apis/ccompat/v7`.",
        repr=False,
    )
    credentials_path: LocalPath | None = Field(
        None,
        description="JSON file with `username` and `password`, or with `token` (bearer). Read for each request.",
    )
    auto_register: bool = Field(
        True, description="Register our schemas. `false`: only look them up, after `oci-sync schemas register`."
    )
    subject_name: Literal["topic", "record"] = Field(
        "topic",
        description="Subjects: `topic` for `<topic>-key` and `<topic>-value`, `record` for the record's full name.",
    )
    ca_file: LocalPath | None = Field(None, description="PEM bundle to trust instead of the system's.")
    client_cert: LocalPath | None = Field(None, description="PEM certificate for mutual TLS.")
    client_key: LocalPath | None = Field(None, description="PEM key of `client_cert`, if it is not in the same file.")
    proxy: str | None = Field(
        None, pattern=r"^https?://", description="Proxy URL for the schema registry; default: none.", repr=False
    )

    @model_validator(mode="after")
    def _key_with_certificate(self) -> Self:
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("has client_key without client_cert")
        return self


class RegistryFields(Strict):
    """How one registry is reached. Its credentials stand in each task's `credentials_path`."""

    ca_file: LocalPath | None = Field(None, description="PEM bundle to trust instead of the system's.")
    client_cert: LocalPath | None = Field(None, description="PEM certificate for mutual TLS.")
    client_key: LocalPath | None = Field(None, description="PEM key of `client_cert`, if it is not in the same file.")
    proxy: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9]*://",
        description="Proxy URL for this registry; default: what the environment says.",
        repr=False,
    )
    plain_http: bool | None = Field(None, description="Speak HTTP. Without it, only loopback literals are plain.")
    concurrency: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Requests at once. Without it 8, and up to 32 while none waits long for it.",
    )
    requests_per_second: float | None = Field(None, gt=0, description="At most so many requests a second.")
    trusted_realms: tuple[Annotated[str, AfterValidator(parse_host)], ...] = Field(
        (), description="Hosts that may be sent this registry's credentials as its token server."
    )
    mirrors: tuple[Annotated[str, checked_by(parse_mirror)], ...] = Field(
        (),
        max_length=8,
        description="Where blobs and manifests are asked for by digest before this registry: `host[:port]`, or with "
        "what stands before its repositories, `harbor.example.com/proxy-hub`.",
    )

    @model_validator(mode="after")
    def _key_with_certificate(self) -> Self:
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("has client_key without client_cert")
        return self


class LimitsFields(Strict):
    """What an artifact may be. Counted on what comes out, not on what a header claims."""

    max_file_size: Size = Field(10_000_000, ge=1, description="Largest file.")
    max_total_size: Size = Field(100_000_000, ge=1, description="Largest sum of all files of an artifact.")
    max_layers: int = Field(1_000, ge=1, le=100_000, description="Most layers of a manifest.")
    max_entries: int = Field(
        30_000, ge=1, le=10_000_000, description="Most files and directories in all archives of an artifact."
    )


class Worker(Strict):
    """The whole of worker.yaml."""

    kafka: Annotated[
        dict[str, Annotated[Property, BeforeValidator(_property), WithJsonSchema(_PROPERTY_SCHEMA)]],
        AfterValidator(_properties),
    ] = Field(
        {_BOOTSTRAP: "localhost:9092"},
        description="librdkafka properties under their own names, passed through. A list of texts is joined by commas.",
        repr=False,
    )
    group: str = Field(
        "oci-sync", pattern=_NAME, description="Consumer group of the source half, prefix of transactional ids."
    )
    group_instance_id: str | None = Field(
        None, pattern=_NAME, description="Static membership: a name of this worker alone, such as the pod's."
    )
    name: str | None = Field(
        None, pattern=_NAME, description="This worker's name in offsets and status; default: the host's."
    )
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="Records and offset in one transaction, fenced by the consumer group."
    )
    topics: TopicsFields = Field(TopicsFields(), description="How topics are created or checked.")
    offsets: OffsetsFields = Field(OffsetsFields(), description="The topic of source offsets.")
    http: HttpFields = Field(HttpFields(), description="The worker's own HTTP server.")
    spool: SpoolFields = Field(SpoolFields(), description="Disk for blobs.")
    schema_registry: SchemaRegistryFields | None = Field(None, description="The schema registry; default: none.")
    registries: dict[Annotated[str, AfterValidator(parse_host)], RegistryFields] = Field(
        {}, description="Settings by OCI registry, `host` or `host:port`."
    )
    limits: LimitsFields = Field(LimitsFields(), description="What an artifact may be.")
    retry: RetryFields = Field(RetryFields(), description="For tasks that say nothing of their own.")

    @property
    def bootstrap(self) -> str:
        """Where Kafka is, for messages."""
        return str(self.kafka[_BOOTSTRAP])

    @property
    def worker_name(self) -> str:
        """How this worker is called in offsets and status."""
        return self.name or self.group_instance_id or socket.gethostname()


def load_worker(
    path: Path | None, environ: Mapping[str, str] | None = None, *, strict_variables: bool = True
) -> Worker:
    """The worker file with the environment's overrides, or the defaults with them.

    Raises ConfigError (a ConfigProblems with everything that is wrong). `strict_variables=False` leaves undefined
    variables as they are written.
    """
    env = os.environ if environ is None else environ
    # The registry client goes by them, and whatever fails on the way may quote its proxy.
    proxies = [value for name, value in env.items() if name.lower().endswith("_proxy")]
    SECRETS.add(*(password for proxy in proxies for password in passwords_in(proxy)))
    document = Document("worker file", Node({}, 0, 0)) if path is None else read_yaml(path)
    source = Source(document, Variables(env, strict=strict_variables), _elsewhere())
    overrides, problems = _overrides(env)
    problems += source.variable_problems()
    if not isinstance(document.root.value, dict | None):
        problems.append(source.problem((), "BadValue", "the file holds no mapping of settings"))
    if problems and any(problem.reason != "UnknownVariable" for problem in problems):
        raise ConfigProblems(_reading(path), problems)
    values = {key: value for key, value in (source.expand() or {}).items() if not key.startswith("x-")}
    read = read_fields(Worker, source, (), _merged(values, overrides))
    if isinstance(read, list):
        places = {(problem.line, problem.column) for problem in problems}
        problems += [problem for problem in read if (problem.line, problem.column) not in places]
    if problems or isinstance(read, list):
        raise ConfigProblems(_reading(path), problems)
    return read


def spool_directory(worker: Worker, environ: Mapping[str, str] | None = None) -> Path:
    """Where blobs go: as set, else the first place that can be written. It need not exist yet."""
    if worker.spool.directory is not None:
        return worker.spool.directory
    env = os.environ if environ is None else environ
    state = Path(env.get("XDG_STATE_HOME") or Path(env.get("HOME") or "/nonexistent") / ".local" / "state")
    own = Path(tempfile.gettempdir()) / f"oci-sync-{os.getuid()}"
    return next(filter(_can_be_written, (_SYSTEM_SPOOL, state / "oci-sync")), own)


def _can_be_written(directory: Path) -> bool:
    existing = next((place for place in (directory, *directory.parents) if place.exists()), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _overrides(env: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """The settings that the environment makes, checked by themselves so that a problem names the variable."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for variable, place in OVERRIDES.items():
        if not env.get(variable):  # an empty one is how a manifest says "not set"
            continue
        value = str(Path(env[variable]).absolute()) if place[-1] == "directory" else env[variable]
        one = _nested(place, value)
        source = Source(Document(f"environment variable {variable}", Node(None, 0, 0)), Variables({variable: value}))
        source.variables.expand("{{env." + variable + "}}")
        read = read_fields(Worker, source, (), one)
        problems += read if isinstance(read, list) else []
        values = _merged(values, one)
    return values, problems


def _nested(place: Iterable[str], value: str) -> dict[str, Any]:
    first, *rest = place
    return {first: _nested(rest, value) if rest else value}


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict | None):
            merged[key] = _merged(old or {}, value)
        elif not isinstance(value, dict):
            merged[key] = value
    return merged


def _elsewhere() -> dict[str, str]:
    """Every setting's name with the block, or blocks, that it belongs to."""
    places: dict[str, str] = {}
    for outer, model in nested_models(Worker).items():
        for name in field_names(model):
            places[name] = f"{places[name]} or `{outer}`" if name in places else f"`{outer}`"
    return places | dict.fromkeys(Worker.model_fields, "the top of the worker file")


def _reading(path: Path | None) -> str:
    return "reading the environment" if path is None else f"reading the worker file {path}"
