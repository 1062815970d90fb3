"""The lock files: every package at one version, vouched for by hash, from wherever the machine takes packages."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
_PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)==[^\s;]+( ; .+)? \\")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def pins(lock: Path) -> dict[str, list[str]]:
    """The name of each pin and the lines below it; comments left out."""
    found: dict[str, list[str]] = {}
    below: list[str] = []
    for line in lock.read_text().splitlines():
        if line.lstrip().startswith("#"):
            continue
        if line.startswith(" "):
            below.append(line)
            continue
        pin = _PIN.fullmatch(line)
        assert pin is not None, f"{lock.name}: {line!r} is no pin that goes on to a hash"
        assert pin[1] not in found, f"{lock.name}: {pin[1]} is there twice"
        below = found[pin[1]] = []
    return found


def test_the_lock_files_are_those_that_make_and_the_image_install() -> None:
    assert [lock.name for lock in LOCKS] == [
        "requirements-build.lock", "requirements-dev.lock", "requirements.lock"
    ]  # fmt: skip


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_each_pin_has_its_hashes_and_there_is_nothing_else(lock: Path) -> None:
    assert pins(lock)
    for name, below in pins(lock).items():
        assert below, f"{lock.name}: {name} has no hash"
        assert all(_HASH.fullmatch(line) for line in below), f"{lock.name}: {name}: {below}"


@pytest.mark.parametrize("lock", [*LOCKS, ROOT / "tools/readers/package-lock.json"], ids=lambda lock: lock.name)
def test_no_lock_names_a_place_that_packages_come_from(lock: Path) -> None:
    # `url` of package-lock.json is where a package asks for money.
    lines = [line for line in lock.read_text().splitlines() if '"url": "' not in line]

    assert [line for line in lines if re.search(r"://|index-url|find-links|\"resolved\"| @ ", line)] == []


def test_every_package_of_the_node_lock_is_vouched_for() -> None:
    packages = json.loads((ROOT / "tools/readers/package-lock.json").read_text())["packages"]

    assert [name for name, one in packages.items() if name and not one.get("integrity", "").startswith("sha512-")] == []


@pytest.mark.parametrize(
    ("lock", "groups"), [("requirements.lock", []), ("requirements-dev.lock", ["dev"])], ids=["product", "dev"]
)
def test_what_the_project_asks_for_is_locked(lock: str, groups: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"]]
    wanted += [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    wanted += [one for group in groups for one in project["dependency-groups"][group]]
    names = {re.split(r"[^A-Za-z0-9._-]", one)[0].lower().replace("_", "-").replace(".", "-") for one in wanted}

    locked = {name.replace(".", "-") for name in pins(ROOT / lock)}
    assert names - {"oci-sync"} - locked == set()
