"""The rooms and the direction of imports, held by import-linter; and what its contracts cannot say."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "connector").rglob("*.py"))


def test_the_import_contracts_are_kept() -> None:
    lint = Path(sys.executable).with_name("lint-imports")

    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_outgrows_its_noun(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 350, "look for the second noun in it"


def test_no_room_has_a_name_that_says_nothing() -> None:
    names = {"utils", "util", "helpers", "common", "base", "manager", "misc"}

    assert [path for path in MODULES if path.stem in names or path.parent.name in names] == []


def test_each_task_has_its_fields_described() -> None:
    from connector.config.task import find_task, task_words

    for word in task_words():
        fields = find_task(word).Fields.model_fields
        assert all(field.description for field in fields.values()), f"a field of {word} has no description"
