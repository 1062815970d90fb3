"""The Avro schemas that ship with the program: `schemas/` of a checkout, `connector/schemas` of an installed wheel."""

import json
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastavro.types import Schema

FILE_KEY: Final = "oci-file-key"
FILE_VALUE: Final = "oci-file-value"
SOURCE_OFFSET: Final = "oci-source-offset-value"
NAMES: Final = (FILE_KEY, FILE_VALUE, SOURCE_OFFSET)


def schema_folder() -> Traversable:
    """Where the schemas stand."""
    installed = files("connector") / "schemas"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "schemas"


@cache
def schema_text(name: str) -> str:
    """The file of a schema, as it stands."""
    return (schema_folder() / f"{name}.avsc").read_text(encoding="utf-8")


@cache
def registered_text(name: str) -> str:
    """What a schema registry is given: the schema on one line. Layout and order are part of what is looked up."""
    return json.dumps(json.loads(schema_text(name)), ensure_ascii=False, separators=(",", ":"))


@cache
def avro_schema(name: str) -> "Schema":
    """The schema as fastavro, which few need, works with it."""
    from fastavro import parse_schema

    return parse_schema(json.loads(schema_text(name)))


def record_name(name: str) -> str:
    """The full name of the record that a schema describes, such as `io.ocisync.v1.OciFile`."""
    document = json.loads(schema_text(name))
    return f"{document['namespace']}.{document['name']}"


def asyncapi_text() -> str:
    """The AsyncAPI description of our topics, as it stands."""
    return (schema_folder() / "asyncapi.yaml").read_text(encoding="utf-8")
