"""Which half of the flows a verb is about: `--only`."""

from enum import StrEnum


class Half(StrEnum):
    """One half of a flow."""

    SOURCE = "source"
    SINK = "sink"
