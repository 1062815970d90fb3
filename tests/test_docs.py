"""What the documents promise to hold, they hold: every reason, verb and decision, and nothing that is gone."""

import re
from pathlib import Path

import pytest

from connector.cli import verb_files
from connector.errors import CLASSES

ROOT = Path(__file__).resolve().parents[1]
CODE = "\n".join(path.read_text() for path in sorted((ROOT / "connector").rglob("*.py")) if path.name != "errors.py")
REASONS = sorted(reason for kind in CLASSES for reason in kind.reasons)


def test_no_two_classes_of_errors_share_a_reason() -> None:
    assert len(REASONS) == len(set(REASONS))


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_explained_with_who_acts(reason: str) -> None:
    section = (ROOT / "docs" / "errors.md").read_text().partition(f"\n### {reason}\n")[2].partition("\n### ")[0]

    assert re.search(r"^Who acts: \S", section, re.MULTILINE), f"docs/errors.md does not explain {reason}"


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_raised_somewhere(reason: str) -> None:
    assert f'"{reason}"' in CODE, f"nothing raises {reason}: take it out of errors.py and docs/errors.md"


def test_the_documents_explain_no_reason_that_is_gone() -> None:
    explained = re.findall(r"^### (\w+)$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)

    assert sorted(explained) == REASONS


@pytest.mark.parametrize("verb", sorted(verb_files()))
def test_each_verb_stands_in_the_readme_or_the_operations_page(verb: str) -> None:
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/operations.md", "docs/configuration.md"))

    assert f"oci-sync {verb}" in text


def test_make_test_leaves_out_only_what_the_readme_says() -> None:
    files = [path for path in (ROOT / "tests").rglob("*.py") if f"mark.{'long'}" in path.read_text()]
    marked = {"readers" if path.parent.name == "readers" else path.name for path in files}
    said = (ROOT / "README.md").read_text().partition("`make test` leaves out")[2].partition("\n\n")[0]

    assert marked == {
        "readers", "test_broker_gone.py", "test_chaos_quick.py", "test_registry_client.py", "test_stranding.py",
    }  # fmt: skip
    assert all(word in " ".join(said.split()) for word in ("readers", "cold pull", "outage", "clock", "name no broker"))


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda page: page.stem)
def test_each_decision_has_its_question_choice_and_what_would_change_it(page: Path) -> None:
    text = page.read_text()

    for part in ("**Question.**", "**Choice.**", "**What would change it.**"):
        assert part in text


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"], ids=lambda page: page.name
)
def test_no_page_links_to_a_file_that_is_not_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
