"""What docker-compose.yml tells the worker and the seed to do, done on the local servers: there is no Docker here."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import nats as nats_client
import pytest
from ruamel.yaml import YAML

from tests.system.servers import Broker, Nats, Oras, Registry
from tools.stack.pins import ROOT

pytestmark = pytest.mark.system


async def test_the_worker_of_the_compose_file_brings_the_seed_to_kafka_and_to_nats(
    kafka: Broker, registry: Registry, nats: Nats, oras: Oras, tmp_path: Path
) -> None:
    compose: Any = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    here = {
        "kafka:19092": kafka.bootstrap,
        "registry:5000": registry.host,
        "nats://nats:4222": nats.url,
        "/var/lib/oci-sync": str(tmp_path),
    }
    texts = {name: _moved(config["content"], here) for name, config in compose["configs"].items()}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    seed = compose["services"]["seed"]
    for config in seed["configs"]:
        (oras.home / Path(config["target"]).name).write_text(texts[config["source"]], encoding="utf-8")

    oras(*(_moved(word, here) for word in seed["command"]))
    _oci_sync("run", "--once", "-c", str(tmp_path / "worker.yaml"), str(tmp_path / "flow.yaml"))
    seen = _oci_sync("peek", "-c", str(tmp_path / "worker.yaml"), "--snapshot", "oci.examples")

    assert "limits.yaml" in seen
    assert "greeting.txt" in seen
    client = await nats_client.connect(nats.url)
    bucket = await client.jetstream().key_value("examples")
    held = await bucket.get("limits.eu")
    await client.close()
    assert held.value == texts["limits"].encode()


def _moved(text: str, places: dict[str, str]) -> str:
    for there, here in places.items():
        text = text.replace(there, here)
    return text


def _oci_sync(*arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "connector", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
