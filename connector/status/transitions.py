"""Since when each condition is as it is: a verdict of the moment, and when its status last changed. Pure."""

from datetime import datetime

from connector.status.facts import SinkId, SourceId, Truth
from connector.status.verdicts import Verdict, Verdicts
from connector.status.view import Condition, ConditionType


class Transitions:
    """Remembers the status of every condition of every source and sink."""

    def __init__(self) -> None:
        self._since: dict[tuple[SourceId | SinkId, str], tuple[Truth, datetime]] = {}

    def settle(self, owner: SourceId | SinkId, verdicts: Verdicts, at: datetime) -> None:
        """Take the verdicts of this moment for what holds from now on."""
        for condition in self.conditions(owner, verdicts, at):
            self._since[owner, condition.type] = (condition.status, condition.since)

    def conditions(
        self, owner: SourceId | SinkId, verdicts: Verdicts, at: datetime
    ) -> tuple[Condition, Condition, Condition]:
        """Ready, Reconciling, Stalled as they are at a moment; remembers nothing."""
        return (
            self._condition(owner, "Ready", verdicts.ready, at),
            self._condition(owner, "Reconciling", verdicts.reconciling, at),
            self._condition(owner, "Stalled", verdicts.stalled, at),
        )

    def _condition(self, owner: SourceId | SinkId, kind: ConditionType, verdict: Verdict, at: datetime) -> Condition:
        status, since = self._since.get((owner, kind), (None, at))
        if status is not verdict.status:
            since = verdict.began or at
        return Condition(kind, verdict.status, verdict.reason, verdict.message, since)
