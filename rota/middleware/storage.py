"""The mirror: the only thing that writes tasks out, on both sides of the chain."""

from __future__ import annotations

import logging
from typing import ClassVar, assert_never

from rota.core.clock import Clock, seconds
from rota.core.codec import SIZE_LIMIT, dump
from rota.core.duty import Offload
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Outcome, Release, Retry
from rota.core.ports import Repository
from rota.core.request import ScheduleNext, ScheduleRequest
from rota.core.run import ExecuteNext, Run
from rota.core.task import Ending, Finish, Inserted, NewTask, Stored
from rota.errors import DuplicateTask, InvalidArgument
from rota.middleware.chain import Middleware
from rota.middleware.finisher import Finisher
from rota.middleware.inserter import Inserter

log = logging.getLogger("rota.middleware")


class StorageMiddleware(Middleware):
    """Innermost while scheduling: inserts. Outermost while executing: finishes.

    It must stand at the clock end of the chain, so that no other middleware can change
    an outcome that is already written.
    """

    place: ClassVar[int] = 4

    def __init__(
        self,
        *,
        repository: Repository,
        inserter: Inserter,
        finisher: Finisher,
        offload: Offload,
        clock: Clock,
        size_limit: int = SIZE_LIMIT,
    ) -> None:
        self._repository = repository
        self._inserter = inserter
        self._finisher = finisher
        self._offload = offload
        self._clock = clock
        self._size_limit = size_limit

    async def on_schedule(self, request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:  # noqa: ARG002 - the clock end
        new = self.row(request)
        if request.rider is not None:
            answer = (await self._offload.run(self._repository.fire, [(request.rider, new)]))[0]
            return answer or Inserted(new.id, created=False, state=Stored.SCHEDULED)
        answer = (await self._inserter.insert([new]))[0]
        return checked(request, answer)

    async def store_many(self, requests: list[ScheduleRequest]) -> list[Inserted]:
        """Insert all of these, or none, in one transaction."""
        answers = await self._inserter.insert([self.row(request) for request in requests])
        return [checked(request, answer) for request, answer in zip(requests, answers, strict=True)]

    def row(self, request: ScheduleRequest) -> NewTask:
        """The request as the repository takes it."""
        limit = self._size_limit
        return NewTask(
            id=request.id,
            work=request.work,
            queue=request.queue,
            priority=request.priority,
            params=dump(request.params, "params", limit=limit) if request.params else "{}",
            options=request.options.encode(),
            at=request.at,
            delay=request.delay,
            expires_at=request.expires_at,
            expires_in=request.expires_in,
            meta=None if request.meta is None else dump(request.meta, "meta", limit=limit),
            unique=request.unique,
            on_conflict=request.on_conflict,
            given_id=request.given_id,
            parent=request.parent,
            recurring=request.recurring,
            fire_at=request.fire_at,
        )

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        outcome = await call_next(run)
        if run.settled:
            return outcome  # shutdown or a lost lease has spoken for it
        run.settled = True
        self._finisher.put(run.token.node, self.ending(run, outcome))
        return outcome

    def ending(self, run: Run, outcome: Outcome) -> Finish:
        """The outcome as the repository takes it."""
        claimed = run.claimed
        finish = Finish(
            claimed.id,
            claimed.batch,
            claimed.attempt,
            Ending.DONE,
            ago=self._clock.monotonic() - run.started,
            queue=claimed.queue,
            priority=claimed.priority,
        )
        match outcome:
            case Done(result=result):
                return self._done(run, finish, result)
            case Retry():
                return finish._replace(
                    ending=Ending.RETRY,
                    payload=outcome.error,
                    reason=outcome.reason or None,
                    delay=0.0 if outcome.after is None else seconds(outcome.after, "after"),
                )
            case Fail():
                return finish._replace(
                    ending=Ending.FAILED, payload=outcome.error, reason=outcome.reason or "failed"
                )
            case Cancel():
                return finish._replace(
                    ending=Ending.CANCELLED,
                    payload=outcome.error,
                    reason=outcome.reason or "cancelled",
                    end_recurring=outcome.recurring,
                )
            case Again():
                return self._again(finish, outcome)
            case Release():
                return finish._replace(ending=Ending.RELEASE, delay=seconds(outcome.after, "after"))
            case Ignore():
                return finish._replace(
                    ending=Ending.PARK, reason="ignored", delay=10.0, keep_from=True
                )
            case _:
                assert_never(outcome)

    def _done(self, run: Run, finish: Finish, result: object) -> Finish:
        if result is None or not run.options.store_result:
            return finish
        try:
            return finish._replace(payload=dump(result, "result", limit=self._size_limit))
        except InvalidArgument as error:
            return finish._replace(ending=Ending.FAILED, reason=str(error))

    def _again(self, finish: Finish, outcome: Again) -> Finish:
        try:
            params = None if outcome.params is None else dump(outcome.params, "params")
        except InvalidArgument as error:
            return finish._replace(ending=Ending.FAILED, reason=str(error))
        return finish._replace(
            ending=Ending.AGAIN, delay=seconds(outcome.after, "after"), params=params
        )


def checked(request: ScheduleRequest, answer: Inserted) -> Inserted:
    """The answer, or ``DuplicateTask`` where the caller asked for that."""
    if not answer.created and request.on_conflict == "raise":
        raise DuplicateTask(
            answer.id, str(answer.state.public), key=request.unique if answer.by_key else None
        )
    return answer
