"""`oci-sync pull`: the files of an artifact, listed or written, under the directory and nowhere else."""

import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connector.cli import execute
from connector.cli.directory import write_files
from connector.errors import LayerError
from tests.fakes.registry import PASSWORD, FakeRegistry, Layer, sha256

FILES = {"flows/a.yaml": b"a: 1\n", "flows/deep/b.yaml": b"b: 2\n", "logo.bin": b"\xff\x00\xfe"}


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.publish("org/app", "prod", FILES)
        yield registry


@pytest.fixture(autouse=True)
def _spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_SYNC_SPOOL_DIRECTORY", str(tmp_path / "spool"))


def file(path: str, data: bytes = b"x") -> tuple[str, Callable[[], bytes]]:
    return path, lambda: data


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_listed(fake: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["pull", fake.reference("org/app")]) == 0

    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["PATH", *FILES]
    assert "3 files, 13 bytes; 3 blobs fetched, 0 at hand" in shown.err


def test_the_files_are_written_byte_for_byte_and_the_next_pull_has_them_at_hand(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["pull", fake.reference("org/app"), "-o", str(tmp_path / "out")]) == 0
    assert contents(tmp_path / "out") == FILES
    capsys.readouterr()
    fake.publish("org/app", "prod", {**FILES, "flows/a.yaml": b"a: 2\n"})

    assert execute(["pull", fake.reference("org/app"), "-o", str(tmp_path / "out"), "--output", "json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["blobs_fetched"], document["blobs_cached"]) == (1, 2)
    assert [row["path"] for row in document["files"]] == list(FILES)
    assert contents(tmp_path / "out")["flows/a.yaml"] == b"a: 2\n"


def test_only_what_is_included_is_fetched(fake: FakeRegistry, tmp_path: Path) -> None:
    assert execute(["pull", fake.reference("org/app"), "--include", "flows/**", "-o", str(tmp_path / "out")]) == 0

    assert sorted(contents(tmp_path / "out")) == ["flows/a.yaml", "flows/deep/b.yaml"]
    assert fake.count("/blobs/") == 2


def test_a_failure_is_one_block_and_writes_nothing(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.blobs[next(iter(fake.blobs))] = b"A: 1\n"

    code = execute(["pull", fake.reference("org/app"), "-o", str(tmp_path / "out"), "-c", str(_quick(tmp_path))])

    assert code == 1
    assert "(DigestMismatch)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _quick(folder: Path) -> Path:
    path = folder / "worker.yaml"
    path.write_text("retry: {max_attempts: 2, initial_backoff: 1ms}\n")
    return path


def test_limits_of_the_worker_file_hold_for_a_pull_too(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for limit, reason in (("max_total_size: 12", "TooLarge"), ("max_layers: 2", "TooLarge")):
        (tmp_path / "worker.yaml").write_text(f"limits: {{{limit}}}\n")

        assert execute(["pull", fake.reference("org/app"), "-c", str(tmp_path / "worker.yaml")]) == 1
        assert f"({reason})" in capsys.readouterr().err

    assert fake.count("/blobs/") == 0


def test_a_total_size_that_the_worker_file_allows_is_fetched_however_large(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.publish_layers("org/app", "prod", [Layer(b"short", size=3 << 30)])
    (tmp_path / "worker.yaml").write_text(
        "limits: {max_total_size: 5GB, max_file_size: 5GB}\nretry: {max_attempts: 1}\n"
    )

    assert execute(["pull", fake.reference("org/app"), "-c", str(tmp_path / "worker.yaml")]) == 1

    assert "(SizeMismatch)" in capsys.readouterr().err
    assert fake.count("/blobs/") == 1


def test_a_failure_of_a_layer_names_host_reference_layer_type_and_digest(
    fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Layer(b"\x1f\x8b no gzip", "application/vnd.oci.image.layer.v1.tar+gzip")
    fake.publish_layers("org/app", "prod", [broken])

    assert execute(["pull", fake.reference("org/app")]) == 1

    shown = " ".join(capsys.readouterr().err.split())
    for fact in (fake.reference("org/app"), "layer 0", broken.media_type, sha256(broken.data), "(publisher)"):
        assert fact in shown


def test_a_disk_that_is_full_leaves_whole_files_and_no_scrap(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    files = [file("a", b"small"), file("d/b", b"x" * 100_000)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # no more than that can be written, as on a full disk
    try:
        with pytest.raises(LayerError, match="'d/b'") as caught:
            write_files(tmp_path / "out", files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.reason == "SpoolFailed"
    assert contents(tmp_path / "out") == {"a": b"small"}


def test_a_place_for_temporary_files_that_is_full_is_an_error_of_the_tree(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))

    assert execute(["pull", fake.reference("org/app"), "-o", str(tmp_path / "out")]) == 1

    assert "(SpoolFailed)" in capsys.readouterr().err


def test_a_wrong_reference_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["pull", "https://r.example/app"]) == 1
    assert "scheme" in capsys.readouterr().err


def test_credentials_are_used(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"username": "ci", "password": PASSWORD}))
    with FakeRegistry(auth="bearer") as fake:
        fake.publish("org/app", "prod", FILES)

        assert execute(["pull", fake.reference("org/app"), "--credentials", str(tmp_path / "c.json")]) == 0


def test_a_link_in_the_directory_leads_nothing_out_of_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "linked").symlink_to(outside)

    with pytest.raises(LayerError) as caught:
        write_files(tmp_path / "out", [file("linked/a")])

    assert caught.value.reason == "UnsafePath"
    assert list(outside.iterdir()) == []


def test_a_link_under_the_files_own_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(outside)

    write_files(tmp_path / "out", [file("a", b"new")])

    assert outside.read_bytes() == b"mine"
    assert (tmp_path / "out" / "a").read_bytes() == b"new"
    assert not (tmp_path / "out" / "a").is_symlink()


@pytest.mark.parametrize("path", ["../a", "x/../../a", "/a", "a//b", "./a"])
def test_a_path_that_climbs_is_refused_although_extraction_lets_none_through(tmp_path: Path, path: str) -> None:
    with pytest.raises(LayerError):
        write_files(tmp_path / "out", [file(path)])

    assert contents(tmp_path) == {}


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b", "a")])
def test_a_file_where_a_folder_must_be_is_an_error_and_leaves_no_scrap(tmp_path: Path, paths: tuple[str, str]) -> None:
    with pytest.raises(LayerError):
        write_files(tmp_path / "out", [file(path) for path in paths])

    assert list(contents(tmp_path / "out")) == [paths[0]]


def test_the_mask_of_the_process_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_files(tmp_path / "out", [file("a")])
    finally:
        os.umask(before)

    assert (tmp_path / "out" / "a").stat().st_mode & 0o777 == 0o640
