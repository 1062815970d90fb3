"""`oci-sync config`: what may stand in the flow file and the worker file, as schema, page and example."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from connector.config.description import configuration_page, flow_schema, worker_schema

app = typer.Typer(no_args_is_help=True, help="What may stand in the flow file and the worker file.")

_EXAMPLE = """\
flow:
  name: my_flow                 # its topic is oci.my_flow
  tasks:
    - generate:
        name: tick
        interval: 30s
    - oci_sync:
        name: pull
        artifact: "registry.example.com/your-org/your-flows:prod"
        # credentials_path: registry.json
"""


class File(StrEnum):
    """The files that a user writes."""

    FLOW = "flow"
    WORKER = "worker"


@app.command("schema")
def print_schema(file: Annotated[File, typer.Argument(help="Which file.")]) -> None:
    """JSON Schema of a file, for editors."""
    schema = flow_schema() if file is File.FLOW else worker_schema()
    typer.echo(json.dumps(schema, indent=2, ensure_ascii=False))


@app.command("page")
def print_page() -> None:
    """docs/configuration.md: every field with its default and description."""
    typer.echo(configuration_page(), nl=False)


@app.command("example")
def print_example() -> None:
    """A flow file to begin with."""
    typer.echo(_EXAMPLE, nl=False)
