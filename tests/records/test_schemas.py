"""The published schemas: what was released stays readable, keys stay frozen, and they say what is really written."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.utils import generate_many
from fastavro.validation import validate
from ruamel.yaml import YAML

from connector.records.file_record import DELETES, FILES, POSITION
from connector.records.schemas import FILE_KEY, NAMES, SOURCE_OFFSET, asyncapi_text, avro_schema, schema_text
from connector.records.source_offset import offset_record
from tests.records.samples import FORMATS, as_record, encoder, file
from tests.records.test_source_offset import OFFSET

SCHEMAS = Path(__file__).parents[2] / "schemas"
RELEASED = sorted((SCHEMAS / "released").glob("*/*.avsc"))


def assert_reads(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Whatever was written with `old` is read with `new`."""
    written_with, read_with = parse_schema(json.loads(json.dumps(old))), parse_schema(json.loads(json.dumps(new)))
    for datum in generate_many(written_with, 20):
        out = BytesIO()
        schemaless_writer(out, written_with, datum)
        out.seek(0)
        schemaless_reader(out, written_with, read_with)


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_todays_schema_reads_what_every_release_wrote(released: Path) -> None:
    assert_reads(json.loads(released.read_text()), json.loads(schema_text(released.stem)))


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_was_released(name: str) -> None:
    assert [path for path in RELEASED if path.stem == name]


@pytest.mark.parametrize("released", [path for path in RELEASED if path.stem == FILE_KEY])
def test_the_key_is_frozen(released: Path) -> None:
    assert json.loads(released.read_text())["fields"] == json.loads(schema_text(FILE_KEY))["fields"]


@pytest.mark.parametrize(
    "field", [{"name": "mode", "type": "int"}, {"name": "path", "type": "int"}], ids=["new without default", "retyped"]
)
def test_a_schema_that_breaks_readers_would_be_seen(field: dict[str, str]) -> None:
    old = json.loads(schema_text("oci-file-value"))
    new = {**old, "fields": [f for f in old["fields"] if f["name"] != field["name"]] + [field]}

    with pytest.raises(Exception, match=r"."):
        assert_reads(old, new)


def test_the_offset_that_is_written_as_json_has_the_shape_of_its_schema() -> None:
    document = json.loads(offset_record("t", 50, "f", OFFSET).value or b"")
    schema = json.loads(schema_text(SOURCE_OFFSET))

    assert [field["name"] for field in schema["fields"]] == list(document)
    assert validate(document, avro_schema(SOURCE_OFFSET), strict=True)


def test_no_union_but_with_null_for_engines_have_no_other() -> None:
    for name in NAMES:
        for field in json.loads(schema_text(name))["fields"]:
            if isinstance(field["type"], list):
                assert field["type"][0] == "null"
                assert len(field["type"]) == 2


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_asyncapi_names_nothing_that_is_not_there() -> None:
    document = YAML(typ="safe", pure=True).load(asyncapi_text())

    assert document["asyncapi"] == "3.0.0"
    for reference in references(document):
        if reference.startswith("#/"):
            node = document
            for part in reference[2:].split("/"):
                node = node[part]
        else:
            assert (SCHEMAS / reference).is_file(), reference


def test_asyncapi_knows_every_header_that_is_written() -> None:
    schemas = YAML(typ="safe", pure=True).load(asyncapi_text())["components"]["schemas"]
    known = set(schemas["headers"]["properties"]) | set(schemas["fileHeaders"]["allOf"][1]["properties"])

    for name in FORMATS:
        for sent in (file(b"\xff"), file(None), file(b"", reference_bytes=9)):
            assert {header for header, _ in as_record(encoder(name, headers="cloudevents"), sent).headers} <= known
    assert {POSITION, FILES, DELETES} <= set(schemas["headers"]["required"])
