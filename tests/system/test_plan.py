"""`plan` says what the pull that follows does, and writes nothing."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.system.product import Product, pulls_of
from tests.system.servers import Broker, Oras, Registry

pytestmark = pytest.mark.system


def plan(product: Product) -> tuple[int, dict[str, str]]:
    command = product.command("plan", "--all", "-o", "json", str(product.flow_file))
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode in (0, 2), result.stderr
    rows = json.loads(result.stdout or "[]")
    return result.returncode, {row["path"]: row["change"] for row in rows}


def test_a_plan_is_what_the_next_pull_does(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = Product(tmp_path, kafka.bootstrap, f"{registry.host}/{unique}/flows:prod", unique)
    releases = [{"a": "1", "b": "1"}, {"a": "2", "c": "1"}, {"a": "2", "c": "1", "d/e": "1"}]
    for number, files in enumerate(releases, start=1):
        oras.push(product.artifact, files)

        code, planned = plan(product)
        assert code == 2
        assert number > 1 or not product.exists(), "the plan created the topic"
        assert product.run_once().returncode == 0

        assert planned == {record.path: record.change for record in pulls_of(product.read())[-1]}
        assert plan(product) == (0, {})
