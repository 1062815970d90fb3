"""`oci-sync config`: what it prints is what the README says it prints."""

from pathlib import Path

import pytest

from connector.cli import execute

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_example_is_a_flow_file_that_passes_and_the_readme_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(["config", "example"])
    (tmp_path / "f.yaml").write_text(capsys.readouterr().out)

    assert execute(["validate", "--offline", str(tmp_path / "f.yaml")]) == 0
    (said,) = [line for line in README.read_text().splitlines() if line.startswith("oci-sync config example")]
    assert "# a flow file to begin with" in said


@pytest.mark.parametrize("arguments", [["page"], ["schema", "flow"], ["schema", "worker"]])
def test_page_and_schemas_name_the_fields_of_their_files(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["config", *arguments]) == 0

    field = "artifact" if "worker" not in arguments else "replication_factor"
    assert field in capsys.readouterr().out
