"""The main job on real servers: releases of a real registry become records on a real Kafka."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.product import Product, assert_whole, pulls_of, table_of
from tests.system.servers import Broker, Oras, Registry

pytestmark = pytest.mark.system

RELEASE_1 = {"flows/a.yaml": "a: 1\n", "flows/b.yaml": "b: 1\n", "c.txt": "gone soon\n"}
RELEASE_2 = {"flows/a.yaml": "a: 1\n", "flows/b.yaml": "b: 2\n", "d.txt": "new\n"}
UNCHANGED = "OCI manifest digest unchanged since last pull, skipping layer fetch"


def make(folder: Path, kafka: Broker, registry: Registry, name: str, **options: object) -> Product:
    return Product(folder, kafka.bootstrap, f"{registry.host}/{name}/flows:prod", name, **options)  # type: ignore[arg-type]


def push(oras: Oras, product: Product, files: dict[str, str]) -> str:
    return oras.push(product.artifact, files)


def succeeded(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert result.returncode == 0, result.stderr
    return result


def test_a_first_pull_is_one_record_a_file_and_one_offset(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique)
    digest = push(oras, product, RELEASE_1)

    succeeded(product.run_once())

    (pull,) = pulls_of(product.read())
    assert_whole(pull)
    assert table_of(pull) == RELEASE_1
    assert {record.change for record in pull} == {"added"}
    for record in pull:
        value = json.loads(record.value or b"")
        assert list(value) == ["path", "content", "digest", "artifact_digest"]
        assert record.key == f"{product.artifact}#{record.path}"
        assert value["artifact_digest"] == record.headers["oci.artifact_digest"] == digest
        assert record.headers["oci.artifact"] == product.artifact
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", record.headers["traceparent"])
        assert "oci.previous_digest" not in record.headers
    ((key, offset),) = product.offsets().items()
    assert key == f"flow.{unique}.oci_digest.{product.artifact}"
    assert (offset["version"], offset["digest"], offset["files"], offset["deletes"]) == (1, digest, 3, 0)
    assert offset["pull_id"] == pull[0].pull_id
    assert set(offset["paths"]) == set(RELEASE_1)


def test_a_second_release_says_what_changed_and_ends_with_tombstones(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique)
    first = push(oras, product, RELEASE_1)
    succeeded(product.run_once())
    push(oras, product, RELEASE_2)

    succeeded(product.run_once())

    _, pull = pulls_of(product.read())
    assert_whole(pull)
    assert {record.path: record.change for record in pull} == {
        "flows/a.yaml": "unchanged", "flows/b.yaml": "modified", "d.txt": "added", "c.txt": "removed",
    }  # fmt: skip
    assert pull[-1].value is None
    assert {record.headers["oci.previous_digest"] for record in pull} == {first}
    assert table_of(product.read()) == RELEASE_2
    assert product.offsets().popitem()[1]["deletes"] == 1


def test_an_unchanged_tick_is_one_request_one_line_and_no_record(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique)
    digest = push(oras, product, RELEASE_1)
    succeeded(product.run_once())
    before = (product.read(), product.read(product.offsets_topic, committed=False))
    requests_before = len(_requests(registry, unique))

    result = succeeded(product.run_once())

    requests = _requests(registry, unique)[requests_before:]
    assert len(requests) == 1, requests
    assert "HEAD" in requests[0]
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].endswith(f"{UNCHANGED} artifact={product.artifact} digest={digest}"), lines[0]
    assert (product.read(), product.read(product.offsets_topic, committed=False)) == before


def _requests(registry: Registry, repository: str) -> list[str]:
    text = registry.log.read_text()
    return [line for line in text.splitlines() if f"/v2/{repository}/" in line and re.search(r'"(HEAD|GET) ', line)]


def test_a_running_worker_sees_releases_and_drains_on_sigterm(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique, interval="300ms")
    push(oras, product, RELEASE_1)

    with product.running() as worker:
        product.wait_for_pulls(1)
        push(oras, product, RELEASE_2)
        product.wait_for_pulls(2)
        worker.wait_for(UNCHANGED, count=2)
        code = worker.end()

    assert code == 0, worker.text()
    assert table_of(product.read()) == RELEASE_2
    assert len(pulls_of(product.read())) == 2


@pytest.mark.parametrize("point", ["transaction_begun", "records_sent", "offsets_sent"])
def test_a_worker_killed_before_the_commit_leaves_nothing_for_committed_readers(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str, point: str
) -> None:
    product = make(tmp_path, kafka, registry, unique)
    push(oras, product, RELEASE_1)

    killed = product.run_once(env={"OCI_SYNC_FAULT": f"kill:{point}"})

    assert killed.returncode == -signal.SIGKILL
    assert product.read() == []
    assert product.offsets() == {}
    sent = product.read(committed=False)
    assert len(sent) == (0 if point == "transaction_begun" else 3)

    succeeded(product.run_once("--join"))

    (pull,) = pulls_of(product.read())
    assert_whole(pull)
    assert table_of(pull) == RELEASE_1
    # The aborted attempt is there for those who do not ask for committed records: so this test can fail.
    assert len(product.read(committed=False)) == len(sent) + 3


def test_a_worker_killed_after_the_commit_does_not_send_the_release_again(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique)
    push(oras, product, RELEASE_1)

    killed = product.run_once(env={"OCI_SYNC_FAULT": "kill:committed"})
    again = succeeded(product.run_once("--join"))

    assert killed.returncode == -signal.SIGKILL
    assert UNCHANGED in again.stderr
    (pull,) = pulls_of(product.read(committed=False))
    assert_whole(pull)


def test_an_open_transaction_of_a_killed_worker_does_not_hold_readers_up_after_the_takeover(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique)
    push(oras, product, RELEASE_1)
    product.run_once(env={"OCI_SYNC_FAULT": "kill:records_sent"})

    succeeded(product.run_once("--join"))

    committed, uncommitted = product.read(), product.read(committed=False)
    assert len(committed) == 3
    assert uncommitted[-1].offset == committed[-1].offset


def test_force_pull_sends_every_file_at_every_tick(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique, task={"force_pull": True})
    push(oras, product, RELEASE_1)

    succeeded(product.run_once())
    succeeded(product.run_once())

    first, second = pulls_of(product.read())
    assert {record.change for record in first} == {"added"}
    assert {record.change for record in second} == {"unchanged"}
    assert_whole(second)


def test_a_setting_that_shapes_the_records_pulls_again_although_the_digest_stands(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path / "1", kafka, registry, unique)
    push(oras, product, RELEASE_1)
    succeeded(product.run_once())
    narrower = make(tmp_path / "2", kafka, registry, unique, task={"include": ["flows/*"]})

    succeeded(narrower.run_once())

    assert table_of(product.read()) == {path: text for path, text in RELEASE_1.items() if path.startswith("flows/")}


def test_a_lost_offset_still_removes_what_is_gone(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path / "1", kafka, registry, unique)
    push(oras, product, RELEASE_1)
    succeeded(product.run_once())
    push(oras, product, RELEASE_2)
    forgetful = make(
        tmp_path / "2", kafka, registry, unique,
        worker={"offsets": {"topic": f"other-{unique}", "partitions": 4}},
    )  # fmt: skip

    result = succeeded(forgetful.run_once())

    assert "reason=OffsetLost" in result.stderr
    assert table_of(product.read()) == RELEASE_2


def test_a_directory_pushed_as_one_archive_gives_a_record_a_file(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path / "product", kafka, registry, unique)
    folder = tmp_path / "push" / "rules"
    for number in range(20):
        file = folder / f"{number % 3}" / f"rule-{number}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"rule: {number}\n")
    oras("push", "--plain-http", product.artifact, "rules", cwd=tmp_path / "push")

    succeeded(product.run_once())

    expected = {f"rules/{n % 3}/rule-{n}.yaml": f"rule: {n}\n" for n in range(20)}
    assert table_of(product.read()) == expected


def test_a_thousand_files_are_one_transaction(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique)
    files = {f"f/{number:04}.txt": f"{number}\n" * 40 for number in range(1_000)}
    oras.push(product.artifact, files, "--concurrency", "16")

    succeeded(product.run_once())

    (pull,) = pulls_of(product.read())
    assert_whole(pull)
    assert table_of(pull) == files
    # One control record, so one transaction: offsets 0 to 999 and the marker.
    assert [record.offset for record in pull] == list(range(1_000))


def test_the_topic_is_created_with_the_promised_settings(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    product = make(tmp_path, kafka, registry, unique)
    push(oras, product, RELEASE_1)
    succeeded(product.run_once())

    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    resource = ConfigResource(ResourceType.TOPIC, product.topic)
    config = {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(10).items()}

    assert config["cleanup.policy"] == "compact"
    assert config["min.compaction.lag.ms"] == "86400000"
    assert config["delete.retention.ms"] == "604800000"
    assert int(config["max.message.bytes"] or 0) >= 2 * 10_000_000


def test_at_least_once_says_so_and_writes_no_transaction(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(tmp_path, kafka, registry, unique, worker={"delivery": "at_least_once"})
    push(oras, product, RELEASE_1)
    first = succeeded(product.run_once())
    push(oras, product, RELEASE_2)
    killed = product.run_once(env={"OCI_SYNC_FAULT": "kill:records_sent"})
    half = product.read()
    succeeded(product.run_once("--join"))

    assert "at_least_once" in first.stderr
    assert killed.returncode == -signal.SIGKILL
    assert len(half) == 3 + 4  # nothing hides the attempt
    pulls = pulls_of(product.read())
    assert len(pulls) == 3  # sent again, whole
    assert_whole(pulls[-1])
    assert table_of(product.read()) == RELEASE_2
    # Without transactions there are no control records between the pulls.
    assert [record.offset for record in product.read()] == list(range(3 + 4 + 4))


def test_two_single_runs_that_share_one_partition_both_end(
    tmp_path: Path, kafka: Broker, registry: Registry, oras: Oras, unique: str
) -> None:
    product = make(
        tmp_path, kafka, registry, unique, worker={"offsets": {"topic": f"offsets-{unique}", "partitions": 1}}
    )
    push(oras, product, RELEASE_1)

    with product.running("--once", "--join") as one, product.running("--once", "--join") as other:
        codes = [run.process.wait(60) for run in (one, other)]

    assert codes == [0, 0], one.text() + other.text()
    assert len(pulls_of(product.read())) == 1
