"""What the process tells of itself: log lines, counted events, and the ids that tie them together.

`configure_logging` and `set_level` set the log up, `SECRETS.add` names what must never show, `printable` makes foreign
text safe to show; `Telemetry` counts, `METRICS` defines; `uuid7` and `traceparent` are ids. Importing it is cheap:
the first HEAD of a process must not wait for a metrics library.
"""

from connector.telemetry.ids import traceparent, uuid7
from connector.telemetry.log_lines import LEVELS, SECRETS, LogFormat, configure_logging, printable, set_level
from connector.telemetry.metrics import METRICS, Phase, Telemetry, TransactionResult

__all__ = [
    "LEVELS",
    "METRICS",
    "SECRETS",
    "LogFormat",
    "Phase",
    "Telemetry",
    "TransactionResult",
    "configure_logging",
    "printable",
    "set_level",
    "traceparent",
    "uuid7",
]
