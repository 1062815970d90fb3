"""An operation tried again after transient errors: the loop is tenacity's, the rules are those of `retry.py`."""

import logging
from collections.abc import Awaitable, Callable
from random import random
from typing import TYPE_CHECKING, TypeVar

from connector.errors import OciSyncError
from connector.oci.clock import Clock
from connector.oci.retry import RetryPolicy, backoff_seconds, is_worth_another

if TYPE_CHECKING:
    from tenacity import RetryCallState

_LOG = logging.getLogger(__name__)
Result = TypeVar("Result")


async def attempts(
    operation: Callable[[], Awaitable[Result]],
    policy: RetryPolicy,
    clock: Clock,
    told: Callable[[OciSyncError, int], None] | None = None,
) -> Result:
    """The operation's result. Raises what its last attempt raised; only errors of the tree are tried again.

    `told` hears of each failure that is not the last, with the number of the attempt that follows.
    """
    # Nearly every operation succeeds at once, a thousand of them in a pull; the loop is made, and its library imported,
    # for those that do not.
    try:
        return await operation()
    except OciSyncError as error:
        made: list[OciSyncError] = [error]
    from tenacity import AsyncRetrying

    def worth_another(state: "RetryCallState") -> bool:
        error = _error_of(state)
        return error is not None and is_worth_another(error, state.attempt_number, policy)

    def wait_seconds(state: "RetryCallState") -> float:
        error = _error_of(state)
        luck = random()  # noqa: S311  spreads load
        return backoff_seconds(policy, state.attempt_number, luck, error.retry_after if error else None)

    def say_next(state: "RetryCallState") -> None:
        error = _error_of(state)
        assert error is not None
        if told is not None:
            told(error, state.attempt_number + 1)
        _LOG.info(
            "%s: %s; attempt %d of %d in %.1f s", error.doing, error.cause, state.attempt_number + 1,
            policy.max_attempts, state.upcoming_sleep, extra={"reason": error.reason},
        )  # fmt: skip

    async def attempt() -> Result:
        if made:
            raise made.pop()  # the first attempt, which is behind us
        return await operation()

    retrying = AsyncRetrying(
        sleep=clock.sleep, retry=worth_another, wait=wait_seconds, before_sleep=say_next, reraise=True
    )
    return await retrying(attempt)


def _error_of(state: "RetryCallState") -> OciSyncError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, OciSyncError) else None
