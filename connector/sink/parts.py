"""What every task of the sink half is handed when it is built."""

from collections.abc import Mapping

from msgspec import Struct, field


class Parts(Struct, frozen=True):
    """Settings that a task does not have in its own fields.

    `max_total_size` is the worker's limit for the bytes of one snapshot; `kafka` are its librdkafka properties.
    """

    flow: str
    max_total_size: int = 100_000_000
    kafka: Mapping[str, str | int | float | bool] = field(default_factory=dict)
