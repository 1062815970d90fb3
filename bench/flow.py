"""A flow of the product with names of its own, as files that a user could have written."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ground import Cost, Ground

SINK_PREFIX = "files."
_SOURCES_A_FLOW = 250  # a flow file takes 1,000 tasks


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
        self.flows.mkdir()
        worker = {
            "kafka": {"bootstrap.servers": self.ground.broker.bootstrap},
            "group": self.name,
            "spool": {"directory": str(self.folder / "spool")},
            **self.worker,
        }
        self.worker_file.write_text(json.dumps(worker, indent=1))  # JSON is YAML
        for start in range(0, len(self.artifacts), _SOURCES_A_FLOW):
            self._write_flow(f"{self.name}-{start}", self.artifacts[start : start + _SOURCES_A_FLOW])
        self.ground.run(*self.command("topics", "create"))

    def _write_flow(self, name: str, artifacts: Sequence[str]) -> None:
        tasks: list[dict[str, Any]] = [{"generate": {"name": "tick", "interval": self.interval}}]
        tasks += [
            {"oci_sync": {"name": f"pull-{number}", "artifact": artifact}} for number, artifact in enumerate(artifacts)
        ]
        if self.sink is not None:
            route = {"match": ".", "key": SINK_PREFIX + "{{ path }}"}
            tasks += [
                {"buffer": {"name": "whole"}},
                {"diff": {"name": "changes", "owns": [SINK_PREFIX], "routes": [route]}},
                {"nats_kv_store": {"name": "save", "operation": "apply", **self.sink}},
            ]
        flow = {"flow": {"name": name, "tasks": tasks}}
        (self.flows / f"{name}.yaml").write_text(json.dumps(flow, indent=1))

    @property
    def flows(self) -> Path:
        return self.folder / "flows"

    @property
    def worker_file(self) -> Path:
        return self.folder / "worker.yaml"

    @property
    def topic(self) -> str:
        """That of the first artifact."""
        return f"oci.{self.name}-0"

    def command(self, *verb: str) -> list[str]:
        """The command line of a verb that takes `-c` and flow files."""
        return [sys.executable, "-m", "connector", *verb, "-c", str(self.worker_file), str(self.flows)]

    def pull(self) -> Cost:
        """One tick of every source: process start to exit."""
        return self.ground.run(*self.command("run", "--once", "--only", "source"))

    def pulled_seconds(self) -> float:
        """What the last pull says it took itself: from its HEAD to the end of its commit, without start and stop."""
        found = re.search(r"committed \d+ files .* in (\d+\.\d+) s", self.ground.said())
        assert found is not None
        return float(found[1])

    def apply(self) -> Cost:
        """What the topic holds, into the store."""
        return self.ground.run(*self.command("run", "--once", "--only", "sink"))
