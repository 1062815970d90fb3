"""docker-compose.yml and Dockerfile: valid, and telling the same story as the local stack.

There is no Docker engine to run them with, so what they say is compared with what the local stack, which is run, says.
"""

import re
import subprocess
import sysconfig
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any  # a compose file is a tree of whatever YAML gives

import pytest
from ruamel.yaml import YAML

from connector.config.flow_file import load_flow
from connector.config.worker_file import load_worker
from tools import healthcheck
from tools.stack import pins
from tools.stack.kafka import shared_properties
from tools.stack.layout import PORTS
from tools.stack.pins import ROOT

SCRIPTS = Path(sysconfig.get_path("scripts"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose() -> Any:
    return YAML(typ="safe").load(ROOT / "docker-compose.yml")


def _environment(compose: Any, service: str) -> Mapping[str, str]:
    environment: Mapping[str, str] = compose["services"][service]["environment"]
    return environment


def _run(*command: str | Path) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    checker = SCRIPTS / "check-jsonschema"

    assert _run(checker, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml") == ""


@pytest.mark.parametrize(
    ("service", "image"),
    [
        ("kafka", f"apache/kafka:{pins.kafka_version()}"),
        ("registry", f"registry:{pins.go_tool_version('registry')}"),
        ("nats", f"nats:{pins.nats_version()}-alpine"),
        ("seed", f"ghcr.io/oras-project/oras:v{pins.go_tool_version('oras')}"),
    ],
)
def test_an_image_is_of_the_version_the_local_stack_runs(compose: Any, service: str, image: str) -> None:
    assert compose["services"][service]["image"] == image


def test_kafka_has_every_setting_of_the_local_broker_and_no_other_but_addresses(compose: Any) -> None:
    addresses = {
        *("CLUSTER_ID", "KAFKA_HEAP_OPTS", "KAFKA_NODE_ID", "KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS"),
        *("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_LOG_DIRS"),
    }
    local = {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in shared_properties().items()}

    in_compose = {key: value for key, value in _environment(compose, "kafka").items() if key not in addresses}

    assert in_compose == local


def test_the_ports_are_those_of_the_local_stack_and_move_by_the_same_variables(compose: Any) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]

    found = dict(re.findall(r"^127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\d+$", "\n".join(published), re.MULTILINE))

    ours = {variable: str(number) for variable, number in PORTS.items() if variable != "KAFKA_CONTROLLER_PORT"}
    assert found == {**ours, "WORKER_PORT": "28090"}
    assert len(found) == len(published)


def test_kafka_tells_clients_of_this_machine_the_published_port(compose: Any) -> None:
    advertised = _environment(compose, "kafka")["KAFKA_ADVERTISED_LISTENERS"]

    assert "HOST://127.0.0.1:${KAFKA_PORT:-29092}" in advertised.split(",")


def test_the_registry_lets_artifacts_be_deleted_as_the_local_one_does(compose: Any) -> None:
    assert _environment(compose, "registry")["REGISTRY_STORAGE_DELETE_ENABLED"] == "true"


def test_nats_has_jetstream(compose: Any) -> None:
    assert "--jetstream" in compose["services"]["nats"]["command"]


def test_the_worker_starts_when_its_servers_are_healthy_and_the_artifact_is_there(compose: Any) -> None:
    awaited = {name: how["condition"] for name, how in compose["services"]["oci-sync"]["depends_on"].items()}

    assert awaited == {
        "kafka": "service_healthy",
        "registry": "service_healthy",
        "nats": "service_healthy",
        "seed": "service_completed_successfully",
    }
    assert all("healthcheck" in compose["services"][name] for name in ("kafka", "registry"))


def test_the_seed_pushes_every_file_it_was_given_to_the_artifact_of_the_flow(compose: Any, tmp_path: Path) -> None:
    seed = compose["services"]["seed"]
    given = {Path(config["target"]).name for config in seed["configs"]}
    pushed = {word.split(":")[0] for word in seed["command"][3:]}

    (tmp_path / "flow.yaml").write_text(compose["configs"]["flow"]["content"], encoding="utf-8")

    assert pushed == given
    assert seed["command"][2] in (tmp_path / "flow.yaml").read_text(encoding="utf-8")


def test_the_flow_of_the_compose_file_is_a_valid_flow(compose: Any, tmp_path: Path) -> None:
    file = tmp_path / "examples.yaml"
    file.write_text(compose["configs"]["flow"]["content"], encoding="utf-8")

    assert load_flow(file).name == "examples"


def test_the_worker_file_of_the_compose_file_is_a_valid_worker_file(compose: Any, tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(compose["configs"]["worker"]["content"], encoding="utf-8")

    worker = load_worker(file, environ=_environment(compose, "oci-sync"))

    assert worker.bootstrap == "kafka:19092"
    assert healthcheck.health_url(worker.http.address or "") == "http://127.0.0.1:8090/healthz"


def test_the_dockerfile_passes_its_linter() -> None:
    assert _run(SCRIPTS / "hadolint", "Dockerfile") == ""


def test_the_image_runs_as_a_user_without_rights() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["65532:65532"]


def test_the_image_installs_nothing_that_the_lock_files_do_not_vouch_for() -> None:
    installs = re.findall(r"pip install (.+?)(?: \\)?$", DOCKERFILE, re.MULTILINE)

    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps /src/dist/" in line for line in installs)


def test_the_image_has_a_python_that_the_package_takes() -> None:
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]

    assert set(re.findall(r"^FROM python:(\d+\.\d+)-", DOCKERFILE, re.MULTILINE)) == {oldest.removeprefix(">=")}


def test_everything_the_image_copies_is_let_through_to_the_builder() -> None:
    copied = [
        source.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    allowed = {
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }

    assert set(copied) == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_a_frozen_worker_is_not_healthy() -> None:
    assert healthcheck.problem_of_process("1 (oci-sync) T 0 1 1") == "the worker is stopped by a signal"


def test_a_sleeping_worker_is_healthy() -> None:
    assert healthcheck.problem_of_process("1 (an (odd) name) S 0 1 1") == ""


def test_a_worker_whose_listener_is_away_is_not_healthy() -> None:
    assert "127.0.0.1:1" in healthcheck.problem_of_listener("http://127.0.0.1:1/healthz")


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (":8090", "http://127.0.0.1:8090/healthz"),
        ("0.0.0.0:8090", "http://127.0.0.1:8090/healthz"),
        ("[::]:8090", "http://[::1]:8090/healthz"),
        ("127.0.0.1:1", "http://127.0.0.1:1/healthz"),
        ("[fd00::1]:80", "http://[fd00::1]:80/healthz"),
    ],
)
def test_the_worker_is_asked_where_it_listens(address: str, url: str) -> None:
    assert healthcheck.health_url(address) == url
