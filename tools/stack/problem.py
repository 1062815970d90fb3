"""The one error of the stack: what could not be done, what came back, what to do."""

from collections.abc import Sequence


class StackError(Exception):
    """A step that failed. `str(error)` is the whole message for a person, `output` is the tail of a tool's output."""

    def __init__(self, doing: str, cause: str, remedy: str, output: str = "") -> None:
        super().__init__(doing, cause, remedy)
        self.doing = doing
        self.cause = cause
        self.remedy = remedy
        self.output = output

    def __str__(self) -> str:
        shown = "".join(f"\n    | {line}" for line in self.output.splitlines())
        return f"{self.doing}: {self.cause}{shown}\n  what to do: {self.remedy}"


class ToolMissing(StackError):
    """Something that the machine itself must bring is not there: Go, Java, Maven. System tests skip on it."""


class SeveralErrors(StackError):
    """What went wrong side by side, told together so that a newcomer installs Go and Java in one go."""

    def __init__(self, errors: Sequence[StackError]) -> None:
        super().__init__("", "", "")
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\nerror: ".join(str(error) for error in self.errors)
