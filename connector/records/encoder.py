"""How the records of a topic look: key, value and headers, by the task's options; and the ids that Avro needs.

`Encoding` asks the schema registry, before anything is opened on Kafka; the `Encoder` it gives is a value and pure.
"""

from importlib import import_module
from typing import Literal, Protocol

from msgspec import Struct

from connector.errors import OutputError
from connector.kafka.record import Headers, Record, record_size_bytes
from connector.records.cloud_events import cloud_event_headers
from connector.records.file_key import KeyFormat, encode_file_key
from connector.records.file_record import FileRecord, file_headers
from connector.records.formats import Format
from connector.records.schemas import FILE_KEY, record_name, registered_text

FormatName = Literal["json", "avro", "raw", "json_schema"]
HeaderStyle = Literal["oci", "cloudevents"]
SubjectName = Literal["topic", "record"]


class SchemaIds(Protocol):
    """Who knows the ids of schemas: `kafka.schema_registry.SchemaRegistry`."""

    subject_name: SubjectName

    async def schema_id(self, subject: str, schema: str) -> int:
        """The id of the schema under the subject. Raises OutputError SchemaRegistryUnreachable, SchemaRejected."""
        ...


class Encoder(Struct, frozen=True):
    """Files of one topic as records. The ids are 0 where nothing is Avro."""

    form: Format
    key_format: KeyFormat
    headers: HeaderStyle
    value_schema_id: int = 0
    key_schema_id: int = 0

    def key(self, artifact: str, path: str) -> bytes:
        """The key of one path."""
        return encode_file_key(self.key_format, artifact, path, self.key_schema_id)

    def record(self, file: FileRecord, key: bytes, topic: str, partition: int, shared: Headers, time_ms: int) -> Record:
        """One file, tombstone or commit record; `shared` is what all records of the pull have in common."""
        encoded = self.form.encode(file, self.value_schema_id)
        headers = self._headers(file, shared, encoded.headers, time_ms)
        return Record(topic, partition, key, encoded.value, headers)

    def size_bytes(self, file: FileRecord, key: bytes, shared: Headers, time_ms: int) -> int:
        """How large that record would be, key and headers included; nothing as large is made for it."""
        measured = self.form.measure(file)
        headers = self._headers(file, shared, measured.headers, time_ms)
        return measured.value_bytes + record_size_bytes(Record("", 0, key, None, headers))

    def _headers(self, file: FileRecord, shared: Headers, of_format: Headers, time_ms: int) -> Headers:
        headers = file_headers(file, shared) + of_format
        return headers + cloud_event_headers(file, time_ms) if self.headers == "cloudevents" else headers


class Encoding:
    """The options of one task, and where its schemas are registered (None where nothing is Avro)."""

    def __init__(
        self, topic: str, form: Format, key_format: KeyFormat, headers: HeaderStyle, schema_ids: SchemaIds | None = None
    ) -> None:
        self._topic = topic
        self._form = form
        self._key_format: KeyFormat = key_format
        self._headers: HeaderStyle = headers
        self._schema_ids = schema_ids

    async def prepare(self) -> Encoder:
        """The encoder, with its ids looked up or registered; no request once they are known.

        Raises OutputError SchemaRegistryUnreachable, SchemaRejected, NotAuthorized.
        """
        ids = {}
        if self._schema_ids is None:
            if self._form.schema is not None or self._key_format == "avro":
                raise self._no_registry()
        else:
            for subject, schema in subjects(
                self._topic, self._form.schema, self._key_format, self._schema_ids.subject_name
            ):
                ids[schema] = await self._schema_ids.schema_id(subject, registered_text(schema))
        return Encoder(
            self._form,
            self._key_format,
            self._headers,
            value_schema_id=ids.get(self._form.schema or "", 0),
            key_schema_id=ids.get(FILE_KEY, 0),
        )

    def measuring(self) -> Encoder:
        """An encoder for sizes, without a question to anybody: its ids are 0, and as long as any."""
        return Encoder(self._form, self._key_format, self._headers)

    def _no_registry(self) -> OutputError:
        return OutputError(
            reason="SchemaRejected",
            doing=f"looking for the schema ids of topic {self._topic}",
            cause="Avro needs a schema registry, and worker.yaml names none",
            remedy="set schema_registry.url in worker.yaml, or take another format (operator)",
        )


def subjects(
    topic: str, value_schema: str | None, key_format: KeyFormat, subject_name: SubjectName
) -> list[tuple[str, str]]:
    """The subjects a topic's records need, each with the name of its schema. Pure.

    `topic`: `<topic>-key` and `<topic>-value` (TopicNameStrategy); `record`: the record's full name.
    """
    wanted = [("key", FILE_KEY)] if key_format == "avro" else []
    if value_schema is not None:
        wanted.append(("value", value_schema))
    if subject_name == "record":
        return [(record_name(schema), schema) for _, schema in wanted]
    return [(f"{topic}-{side}", schema) for side, schema in wanted]


def build_format(name: str) -> Format:
    """The format whose module has that name."""
    made: Format = import_module(f"connector.records.formats.{name}").build()
    return made
