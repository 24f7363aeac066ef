"""Turn what a work raised into an outcome: try again while attempts are left, or fail."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import ClassVar, assert_never

from rota.core.backoff import Backoff
from rota.core.clock import seconds
from rota.core.failure import describe, to_json
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Outcome, Release, Retry
from rota.core.run import ExecuteNext, Run, Stop
from rota.middleware.chain import Middleware


class RetryMiddleware(Middleware):
    """Ends every run in an outcome; nothing a work raises gets past it.

    An exception is a failed attempt: ``Retry`` after the task's backoff while attempts
    are left, else ``Fail``. A cancel that rota sent is ``Cancel``; a ``CancelledError``
    that rota did not send is a failure like any other.
    """

    place: ClassVar[int] = 2

    def __init__(self, *, default: Backoff | None = None, rng: random.Random | None = None) -> None:
        self._default = default or Backoff()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        try:
            outcome = await call_next(run)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None:
                while task.uncancel():
                    pass
            return self._stopped(run, error)
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # noqa: BLE001
            return self._stopped(run, error)
        if isinstance(outcome, Done):
            return outcome
        if not isinstance(outcome, Outcome):
            return self._failed(run, _no_outcome(outcome))
        return self._checked(run, outcome)

    def _stopped(self, run: Run, error: BaseException) -> Outcome:
        match run.stopped:
            case Stop.CANCELLED | Stop.CHANGED:
                noted = None if isinstance(error, asyncio.CancelledError) else to_json(error)
                return Cancel(run.stop_reason, error=noted)
            case Stop.SHUTDOWN | Stop.LOST:
                return Release()
            case Stop.TIMEOUT | None:
                return self._failed(run, error)
            case _:
                assert_never(run.stopped)

    def _failed(self, run: Run, error: BaseException) -> Outcome:
        return self._checked(run, Retry(reason=describe(error), error=to_json(error)))

    def _checked(self, run: Run, outcome: Outcome) -> Outcome:
        """The outcome with its wait filled in, or ``Fail`` where no attempt is left."""
        match outcome:
            case Retry():
                limit = run.options.max_attempts
                if limit is not None and run.claimed.attempt >= limit and not outcome.beyond_max:
                    return Fail(outcome.reason or "no attempt left", error=outcome.error)
                return self._with_wait(run, outcome) if outcome.after is None else outcome
            case Done() | Fail() | Cancel() | Again() | Release() | Ignore():
                return outcome
            case _:
                assert_never(outcome)

    def _with_wait(self, run: Run, outcome: Retry) -> Outcome:
        """A copy, since a work may raise one and the same value again and again."""
        try:
            return replace(outcome, after=self._wait(run))
        except Exception as error:  # noqa: BLE001 - the work's own function may do anything
            told = f"; it failed with {outcome.reason}" if outcome.reason else ""
            return Fail(
                f"the backoff of {run.work} gave no wait ({describe(error)}){told}",
                error=outcome.error or to_json(error),
            )

    def _wait(self, run: Run) -> float:
        for work in run.works:
            backoff = work.options.backoff
            if callable(backoff):
                return seconds(backoff(run.claimed.attempt), "backoff")
        return (run.options.backoff or self._default).delay(run.claimed.attempt, self._rng)


def _no_outcome(value: object) -> TypeError:
    return TypeError(
        f"a middleware's on_execute returned {value!r}, which is no outcome; "
        "return what call_next returned"
    )
