"""`generate`: when the sources below it look at their registry."""

from datetime import timedelta

from msgspec import Struct
from pydantic import Field

from connector.config.task import Duration, TaskFields


class Fields(TaskFields):
    """A steady beat. Every `oci_sync` task below looks at its registry once a beat, first when the worker starts."""

    interval: Duration = Field(
        timedelta(minutes=1), gt=timedelta(0), description="Time between two looks at the registry."
    )
    jitter: Duration = Field(
        timedelta(0),
        ge=timedelta(0),
        description="Up to this much is added to each interval at random, so that many sources do not look at once.",
    )


class Schedule(Struct, frozen=True):
    """The beat of one source."""

    interval: timedelta
    jitter: timedelta

    def wait_seconds(self, chance: float, took_seconds: float) -> float:
        """Seconds until the next tick, after one that took `took_seconds`; `chance` is in [0, 1).

        Beats that a long tick has missed are left out, not made up for.
        """
        interval = self.interval.total_seconds()
        return max(0.0, interval - took_seconds % interval) + chance * self.jitter.total_seconds()


def build(fields: Fields) -> Schedule:
    """The schedule a source follows."""
    return Schedule(fields.interval, fields.jitter)
