"""What the readers saw, as the table of docs/readers.md. Written by `make test-readers`, checked by every other run."""

from dataclasses import dataclass

from tests.readers.readers import READERS

BEGIN, END = "<!-- matrix: written by make test-readers -->", "<!-- end of matrix -->"
_HEAD = """\
| reader | client | format | early, `read_committed` | late, `read_committed` | early, nothing set | late, nothing set |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How each reading ended: the words that stand in the table."""

    early: str
    late: str
    early_unset: str
    late_unset: str


Outcomes = dict[tuple[str, str], Outcome]


def table(outcomes: Outcomes) -> str:
    """One row a reader and format, in the order of READERS."""
    return _HEAD + "".join(
        row(reader.name, reader.client, format_, outcomes[reader.name, format_])
        for reader in READERS
        for format_ in reader.formats
        if (reader.name, format_) in outcomes
    )


def row(name: str, client: str, format_: str, outcome: Outcome) -> str:
    """One line of the table."""
    cells = (name, client, f"`{format_}`", outcome.early, outcome.late, outcome.early_unset, outcome.late_unset)
    return f"| {' | '.join(cells)} |\n"


def rewrite(page: str, outcomes: Outcomes) -> str:
    """The page with another table."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(outcomes)}\n{END}{after}"
