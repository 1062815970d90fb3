"""A flow of the product with names of its own, as files that a user could have written."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ground import Cost, Ground

SINK_PREFIX = "files."


@dataclass
class BenchFlow:
    """One flow over these references. The topics exist before anything is measured; the blob cache is cold."""

    ground: Ground
    artifacts: Sequence[str]
    interval: str = "1h"
    sink: Mapping[str, Any] | None = None
    worker: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.ground.fresh("flow")
        self.folder = self.ground.new_folder(self.name)
        tasks: list[dict[str, Any]] = [{"generate": {"name": "tick", "interval": self.interval}}]
        tasks += [
            {"oci_sync": {"name": f"pull-{number}", "artifact": artifact}}
            for number, artifact in enumerate(self.artifacts)
        ]
        if self.sink is not None:
            route = {"match": ".", "key": SINK_PREFIX + "{{ path }}"}
            tasks += [
                {"buffer": {"name": "whole"}},
                {"diff": {"name": "changes", "owns": [SINK_PREFIX], "routes": [route]}},
                {"nats_kv_store": {"name": "save", "operation": "apply", **self.sink}},
            ]
        worker = {
            "kafka": {"bootstrap.servers": self.ground.broker.bootstrap},
            "group": self.name,
            "spool": {"directory": str(self.folder / "spool")},
            **self.worker,
        }
        # JSON is YAML.
        self.flow_file.write_text(json.dumps({"flow": {"name": self.name, "tasks": tasks}}, indent=1))
        self.worker_file.write_text(json.dumps(worker, indent=1))
        self.ground.run(*self.command("topics", "create"))

    @property
    def flow_file(self) -> Path:
        return self.folder / "flow.yaml"

    @property
    def worker_file(self) -> Path:
        return self.folder / "worker.yaml"

    @property
    def topic(self) -> str:
        return f"oci.{self.name}"

    def command(self, *verb: str) -> list[str]:
        """The command line of a verb that takes `-c` and flow files."""
        return [sys.executable, "-m", "connector", *verb, "-c", str(self.worker_file), str(self.flow_file)]

    def pull(self) -> Cost:
        """One tick of every source: process start to exit."""
        return self.ground.run(*self.command("run", "--once", "--only", "source"))

    def apply(self) -> Cost:
        """What the topic holds, into the store."""
        return self.ground.run(*self.command("run", "--once", "--only", "sink"))
