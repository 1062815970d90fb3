"""Every example flow on real servers: a first release, then one that changes, adds and removes."""

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats as nats_client
import pytest
from nats.js.api import DeliverPolicy

from tests.system.product import COMMAND, Product
from tests.system.servers import Broker, Nats, Oras, Registry
from tests.system.test_sink_redis import PASSWORD as REDIS_PASSWORD
from tests.system.test_sink_redis import port as redis_port

__all__ = ["redis_port"]
pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "examples" / "oci"


def _make_artifact() -> Any:
    spec = importlib.util.spec_from_file_location("make_artifact", EXAMPLES / "make_artifact.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RELEASES: Mapping[int, Mapping[str, str]] = {number: _make_artifact().release(number) for number in (1, 2)}


@dataclass
class Example:
    """One example flow under names of its own, on servers of this run."""

    folder: Path
    flow_file: Path
    worker_file: Path
    bucket: str
    reference: str
    oras: Oras
    environ: Mapping[str, str]

    def release(self, number: int) -> None:
        """Push, pull, apply."""
        self.oras.push(self.reference, RELEASES[number])
        self.source()
        self.sink()

    def command(self, *arguments: str) -> list[str]:
        return [*COMMAND, *arguments, "-c", str(self.worker_file), str(self.flow_file)]

    def source(self) -> str:
        """One tick of the source half; its log. A static member counts as live for a while, so --join."""
        return self.run(*self.command("run", "--once", "--join", "--only", "source"))

    def sink(self) -> str:
        """The sink half to the end of the topic; its log."""
        return self.run(*self.command("run", "--once", "--join", "--only", "sink"))

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env={**os.environ, **self.environ}, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def example(
    kafka: Broker, registry: Registry, nats: Nats, oras: Oras, unique: str, tmp_path: Path
) -> Callable[..., Example]:
    def make(name: str, **environ: str) -> Example:
        text = (EXAMPLES / name).read_text()
        for here, there in (("your-org/your-flows", unique), ("flowgen_system", unique), ("30s", "1s")):
            text = text.replace(here, there)
        first = next(line for line in text.splitlines() if line.startswith("  name: "))
        flow_file, worker_file = tmp_path / name, tmp_path / "worker.yaml"
        flow_file.write_text(text.replace(first, f"  name: {unique}"))
        worker = {
            "kafka": {"bootstrap.servers": kafka.bootstrap},
            "group": f"g-{unique}",
            "group_instance_id": "one",  # a start after a kill gets its partitions at once
            "offsets": {"topic": f"offsets-{unique}", "partitions": 4},
            "spool": {"directory": str(tmp_path / "spool")},
        }
        worker_file.write_text(json.dumps(worker))
        variables = {"REGISTRY": registry.host, "NATS_URL": nats.url, **environ}
        return Example(
            tmp_path, flow_file, worker_file, unique, f"{registry.host}/{unique}:prod", oras, variables
        )  # fmt: skip

    return make


async def bucket(nats: Nats, name: str) -> dict[str, tuple[bytes, int]]:
    """What a bucket holds, asked by a client of its own: key → value and revision.

    Not by the client's `watchall`, which may call a bucket empty while its messages are on their way.
    """
    client = await nats_client.connect(nats.url)
    try:
        newest = await client.jetstream().subscribe(
            f"$KV.{name}.>", ordered_consumer=True, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT
        )
        info = await newest.consumer_info()
        pending = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
        held: dict[str, tuple[bytes, int]] = {}
        while pending:
            message = await newest.next_msg(timeout=10)
            pending = message.metadata.num_pending
            if not message.headers or "KV-Operation" not in message.headers:
                held[message.subject.removeprefix(f"$KV.{name}.")] = (message.data, message.metadata.sequence.stream)
        return held
    finally:
        await client.close()


def _flows(number: int) -> dict[str, bytes]:
    files = {path: text for path, text in RELEASES[number].items() if path.startswith("flows/")}
    return {f"flowgen.flows.{text.split('name: ')[1].split()[0]}": text.encode() for text in files.values()}


def _others(number: int) -> dict[str, bytes]:
    return {
        f"flowgen.resources.{path}": text.encode()
        for path, text in RELEASES[number].items()
        if not path.startswith("flows/")
    }


def test_the_example_artifact_is_worth_the_name() -> None:
    first, second = RELEASES[1], RELEASES[2]

    assert min(len(first), len(second)) >= 40
    assert set(first) - set(second)
    assert set(second) - set(first)
    assert any(first[path] != second[path] for path in set(first) & set(second))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("system_sync_flows.yaml", _flows),
        ("system_sync_resources.yaml", _others),
        ("list_and_delete.yaml", _flows),
    ],
)
async def test_a_flow_that_reconciles_holds_each_release_and_nothing_else(
    example: Callable[..., Example], nats: Nats, name: str, wanted: Callable[[int], dict[str, bytes]]
) -> None:
    it = example(name)

    it.release(1)
    assert {key: value for key, (value, _) in (await bucket(nats, it.bucket)).items()} == wanted(1)

    it.release(2)
    after = await bucket(nats, it.bucket)
    assert {key: value for key, (value, _) in after.items()} == wanted(2)

    it.sink()
    assert await bucket(nats, it.bucket) == after, "a start without a change wrote something"


async def test_the_first_flow_that_was_asked_for_puts_every_flow_by_its_name(
    example: Callable[..., Example], nats: Nats
) -> None:
    it = example("oci_sync_flows.yaml")

    it.release(1)
    it.release(2)

    held = {key: value for key, (value, _) in (await bucket(nats, it.bucket)).items()}
    assert held == _flows(1) | _flows(2)  # it puts and never deletes


async def test_a_directory_holds_each_release(example: Callable[..., Example], tmp_path: Path) -> None:
    target = tmp_path / "rules"
    it = example("to_directory.yaml", TARGET_DIRECTORY=str(target))

    for number in (1, 2):
        it.release(number)
        held = {str(p.relative_to(target)): p.read_text() for p in target.rglob("*") if p.is_file()}
        assert held == RELEASES[number]


def _log_in_to_redis(it: Example) -> None:
    """The example names no credentials, and the server of the tests wants a password."""
    credentials = it.folder / "redis.json"
    credentials.write_text(json.dumps({"password": REDIS_PASSWORD}))
    url = 'url: "{{env.REDIS_URL}}"'
    it.flow_file.write_text(it.flow_file.read_text().replace(url, f'{url}, credentials_path: "{credentials}"'))


async def test_redis_holds_each_release(example: Callable[..., Example], redis_port: int) -> None:
    import redis

    it = example("to_redis.yaml", REDIS_URL=f"redis://127.0.0.1:{redis_port}/0")
    _log_in_to_redis(it)

    for number in (1, 2):
        it.release(number)
        client = redis.Redis(port=redis_port, password=REDIS_PASSWORD, decode_responses=True)
        held = {key: client.get(key) for key in client.scan_iter("rules:*")}
        client.close()
        assert held == {f"rules:{path}": text for path, text in RELEASES[number].items()}


def test_a_topic_holds_each_release(example: Callable[..., Example], kafka: Broker, unique: str) -> None:
    it = example("to_kafka_topic.yaml", TARGET_TOPIC=f"target-{unique}")
    reader = Product(it.folder / "reader", kafka.bootstrap, "a/b:c", unique)

    for number in (1, 2):
        it.release(number)
        held: dict[str, bytes] = {}
        for record in reader.read(f"target-{unique}"):
            if record.value is None:
                held.pop(record.key, None)
            else:
                held[record.key] = record.value
        assert held == {f"rules:{path}": text.encode() for path, text in RELEASES[number].items()}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_each_example_is_valid_offline_and_connected(
    example: Callable[..., Example], name: str, redis_port: int, tmp_path: Path, unique: str
) -> None:
    it = example(
        name, TARGET_DIRECTORY=str(tmp_path / "rules"), TARGET_TOPIC=f"target-{unique}",
        REDIS_URL=f"redis://127.0.0.1:{redis_port}/0",
    )  # fmt: skip
    it.oras.push(it.reference, RELEASES[1])
    if name == "to_redis.yaml":
        _log_in_to_redis(it)

    offline = it.run(*it.command("validate", "--offline"))
    connected = it.run(*it.command("validate"))

    assert "1 flow in order" in offline
    assert "FAIL" not in connected
    assert re.search(rf"^ok +{unique}/\w+: .*(answers|does not exist yet|is there)", connected, re.MULTILINE)


def test_validate_says_that_a_store_refuses_us(example: Callable[..., Example], redis_port: int, unique: str) -> None:
    it = example("to_redis.yaml", REDIS_URL=f"redis://127.0.0.1:{redis_port}/0")
    it.oras.push(it.reference, RELEASES[1])

    refused = subprocess.run(
        it.command("validate"), env={**os.environ, **it.environ}, capture_output=True, text=True, check=False,
        timeout=90,
    )  # fmt: skip

    assert refused.returncode == 1
    (line,) = [line for line in refused.stdout.splitlines() if line.startswith("FAIL")]
    assert line.startswith(f"FAIL {unique}/")
    assert line.endswith("[StoreRefused]")
    assert "credentials_path" in line
