"""`script`: Starlark between a buffer and a store, in a process of its own with bounds on time and memory.

    def main(event):
        return [{"key": "x." + f.path, "content": f.content} for f in event.data.batch]

The script is handed one event and returns one, a list of them, or None. What it returns is an event `{data, meta}`, or
just its data. `a.b` reads like `a["b"]` (see `script_process`), so both ways of writing work.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import Field

from connector.config.task import Duration, Size, TaskFields
from connector.errors import SinkError
from connector.sink.event import Event
from connector.sink.parts import Parts
from connector.sink.script_child import COMMAND, how_it_ended, problems_of

# What one run may hand back. A snapshot has at most max_total_size (100 MB), and a script may add keys to it.
_LONGEST_ANSWER = 512_000_000
# For a check, where the task does not say: Python takes 50 MB of it; and measured, 370 for each character of the text.
_CHECK_BYTES = 250_000_000
_CHECK_BYTES_A_CHARACTER = 400


class Fields(TaskFields):
    """Starlark: turns each event into one, many or none."""

    code: str = Field(min_length=1, max_length=1_000_000, description="The script; it defines `main(event)`.")
    timeout: Duration = Field(
        timedelta(seconds=30), gt=timedelta(0), description="A run that takes longer is ended and is an error."
    )
    memory: Size = Field(
        1_000_000_000, ge=100_000_000, description="Address space of the script's process, with Python itself in it."
    )


class Script:
    """One `script` task."""

    def __init__(self, name: str, code: str, timeout: timedelta, memory_bytes: int) -> None:
        self._doing = f"running script {name!r}"
        self._code = code
        self._timeout = timeout
        self._memory_bytes = memory_bytes

    async def handle(self, events: Sequence[Event]) -> list[Event]:
        """The events that `main` makes of these, in order. Raises SinkError ScriptFailed, with the script's line."""
        request = {
            "code": self._code,
            "memory_bytes": self._memory_bytes,
            "events": [{"data": event.data, "meta": event.meta} for event in events],
        }
        answer = await self._run(json.dumps(request).encode())
        if "error" in answer:
            raise self._failed(
                str(answer["error"]), "mend the script (operator), or the file that it reads (publisher)"
            )
        return [
            Event(made["data"], {**events[number].meta, **made["meta"]})
            for number, several in enumerate(answer["events"])
            for made in several
        ]

    async def _run(self, request: bytes) -> dict[str, Any]:
        # No environment: a script cannot read one, and neither should a flaw in its interpreter.
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={},
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                output, errors = await process.communicate(request)
        except TimeoutError as error:
            raise self._failed(
                f"it did not end within {self._timeout.total_seconds():g} s",
                "make it do less, or raise its 'timeout' (operator)",
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0 or len(output) > _LONGEST_ANSWER:
            raise self._failed(
                how_it_ended(process.returncode, errors), "make it use less, or raise its 'memory' (operator)"
            )
        answer: dict[str, Any] = json.loads(output)
        return answer

    def _failed(self, cause: str, remedy: str) -> SinkError:
        return SinkError(reason="ScriptFailed", doing=self._doing, cause=cause, remedy=remedy)


def build(fields: Fields, parts: Parts) -> Script:
    """The script of one task."""
    return Script(fields.name, fields.code, fields.timeout, fields.memory)


def check(fields: Fields) -> list[str]:
    """What the compiler says of the code, with the line within it; what the task's time and memory do not allow."""
    enough = _CHECK_BYTES + _CHECK_BYTES_A_CHARACTER * len(fields.code)
    memory_bytes = fields.memory if "memory" in fields.model_fields_set else min(fields.memory, enough)
    return list(problems_of(fields.code, fields.timeout, memory_bytes))
