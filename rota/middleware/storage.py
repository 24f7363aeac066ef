"""The mirror: the only thing that writes tasks out, on both sides of the chain."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, assert_never

from rota.core.clock import Clock, seconds
from rota.core.codec import SIZE_LIMIT, dump, load
from rota.core.conflict import refuse_met
from rota.core.duty import Offload
from rota.core.eventlog import attempt_ended
from rota.core.failure import describe, noted, reason, to_json
from rota.core.ids import new_id
from rota.core.options import Options, decode_options
from rota.core.outcome import Again, Cancel, Done, Fail, Ignore, Outcome, Release, Retry
from rota.core.ports import Repository
from rota.core.recurring import Fire
from rota.core.request import ScheduleNext, ScheduleRequest
from rota.core.run import ExecuteNext, Run
from rota.core.task import Ending, Finish, Inserted, NewTask, Stored
from rota.errors import InvalidArgument, RecurringNotFound
from rota.middleware.chain import Middleware
from rota.middleware.finisher import Finisher
from rota.middleware.inserter import Inserter

log: logging.Logger = logging.getLogger("rota.middleware")


#: Calls a function with the plain connection behind the caller's, in the right thread.
RunIn = Callable[[object, Callable[[object], Any]], Awaitable[Any]]
#: Takes a follow-up through the chain, up to the storage end.
Follow = Callable[[ScheduleRequest], Awaitable[ScheduleRequest]]
# Made once: to look a member up in its enumeration takes as long as to make a tuple.
_DONE = Ending.DONE


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
        run_in: RunIn | None = None,
        follow: Follow | None = None,
        size_limit: int = SIZE_LIMIT,
    ) -> None:
        self._repository = repository
        self._inserter = inserter
        self._finisher = finisher
        self._offload = offload
        self._clock = clock
        self._run_in = run_in
        self._follow = follow
        self._size_limit = size_limit
        none = Options()
        self._encoded = none, none.encode()  #: the last options and their text

    async def on_schedule(self, request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:  # noqa: ARG002 - the clock end
        new = self.row(request)
        if request.rider is not None:
            fired = (await self._offload.run(self._repository.fire, [(request.rider, new)]))[0]
            return Inserted(fired.task or new.id, fired.created, Stored.SCHEDULED)
        answer = (await self._insert(request.connection, [new]))[0]
        return refuse_met([new], [answer])[0]

    async def _fire(self, rider: Fire, new: NewTask) -> Inserted:
        """A recurring task's child with its tick; many at once go by ``Firing``."""
        fires = [(replace(rider, task=new.id), new)]
        fired = (await self._offload.run(self._repository.fire, fires))[0]
        if fired.decision is None and rider.by_hand:
            raise RecurringNotFound(rider.recurring)
        return Inserted(fired.task or new.id, fired.created, Stored.SCHEDULED)

    async def store_many(
        self, parts: Iterable[Sequence[ScheduleRequest]]
    ) -> tuple[list[NewTask], list[Inserted], object | None]:
        """Insert all of these, or none, in one transaction: the rows, their answers, whose it was.

        All are of one connection, the caller's or None. Where there is more than one part, each
        is written while the next is made.
        """
        coming = iter(parts)
        begin = list(itertools.islice(coming, 2))
        rows: list[NewTask] = []

        def made() -> Iterator[list[NewTask]]:
            for part in itertools.chain(begin, coming):
                new = list(map(self.row, part))
                rows.extend(new)
                yield new

        connection = begin[0][0].connection
        if connection is None and len(begin) > 1:
            answers = await self._inserter.insert_parts(made())
        else:
            for _ in made():
                await asyncio.sleep(0)
            answers = await self._insert(connection, rows)
        return rows, refuse_met(rows, answers), connection

    async def _insert(self, connection: object | None, rows: list[NewTask]) -> list[Inserted]:
        """In a group with others, or in the caller's own transaction."""
        if connection is None or self._run_in is None:
            return await self._inserter.insert(rows)
        answers: list[Inserted] = await self._run_in(
            connection,
            lambda plain: self._repository.insert_in(plain, rows, together=len(rows) > 1),
        )
        return answers

    def row(self, request: ScheduleRequest) -> NewTask:
        """The request as the repository takes it."""
        limit = self._size_limit
        options, encoded = self._encoded
        if request.options is not options:
            encoded = request.options.encode()
            self._encoded = request.options, encoded
        # In the fields' order, since naming nineteen of them would take twice as long.
        return NewTask(
            request.id,
            request.work,
            request.queue,
            request.priority,
            dump(request.params, "params", limit=limit) if request.params else "{}",
            encoded,
            request.at,
            request.delay,
            request.expires_at,
            request.expires_in,
            None if request.meta is None else dump(request.meta, "meta", limit=limit),
            request.unique,
            request.on_conflict,
            request.given_id,
            request.parent,
            request.recurring,
            request.fire_at,
            request.period,
            request.fence,
        )

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        try:
            outcome = await call_next(run)
        except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001
            # Whatever the chain did, the task must not stay in working.
            outcome = _failed(error)
        if run.settled:
            return outcome  # shutdown or a lost lease has spoken for it
        run.settled = True
        try:
            finish = self.ending(run, outcome)
            options = run.options
            if options.on_done is not None or options.on_failed is not None:
                finish = await self.with_follow_up(run.id, options, finish)
        except Exception as error:  # noqa: BLE001 - an outcome with impossible fields
            finish = self.ending(run, _failed(error))
        # Completed in the work's own transaction: this counts only if that was rolled back,
        # else the attempt's own completion is found in history.
        self._finisher.put(run.node, finish, repeated=run.completed)
        attempt_ended(run, finish)
        return outcome

    async def with_follow_up(self, task_id: str, options: Options, finish: Finish) -> Finish:
        """The outcome with the task that is to be inserted along with it."""
        spec = {
            Ending.DONE: options.on_done,
            Ending.FAILED: options.on_failed,
        }.get(finish.ending)
        if spec is None or self._follow is None:
            return finish
        request = ScheduleRequest(
            id=new_id(),
            work=spec.work,
            params=load(spec.params),
            queue=spec.queue,
            priority=spec.priority,
            delay=spec.delay,
            options=decode_options(spec.options),
            parent=task_id,
        )
        try:
            return finish._replace(follow=self.row(await self._follow(request)))
        except Exception as error:  # noqa: BLE001 - the outcome counts whatever becomes of it
            log.warning("the follow-up of task %s was not accepted: %s", task_id, error)
            return finish

    def ending(self, run: Run, outcome: Outcome) -> Finish:
        """The outcome as the repository takes it."""
        match outcome:
            case Done(result=result):
                return self._done(run, result)
            case Retry():
                return self._finish(
                    run,
                    Ending.RETRY,
                    payload=noted(outcome.error),
                    reason=reason(outcome.reason) or None,
                    delay=0.0 if outcome.after is None else seconds(outcome.after, "after"),
                )
            case Fail():
                return self._finish(
                    run,
                    Ending.FAILED,
                    payload=noted(outcome.error),
                    reason=reason(outcome.reason) or "failed",
                )
            case Cancel():
                return self._finish(
                    run,
                    Ending.CANCELLED,
                    payload=noted(outcome.error),
                    reason=reason(outcome.reason) or "cancelled",
                    end_recurring=bool(outcome.recurring),
                )
            case Again():
                return self._again(run, outcome)
            case Release():
                return self._finish(run, Ending.RELEASE, delay=seconds(outcome.after, "after"))
            case Ignore():
                return self._finish(run, Ending.PARK, reason="ignored", delay=10.0, keep_from=True)
            case _:
                assert_never(outcome)

    def _finish(
        self,
        run: Run,
        ending: Ending,
        *,
        payload: str | None = None,
        reason: str | None = None,
        delay: float = 0.0,
        params: str | None = None,
        keep_from: bool = False,
        end_recurring: bool = False,
    ) -> Finish:
        claimed = run.claimed
        # In the fields' order, since naming fifteen of them would take twice as long.
        return Finish(
            claimed.id,
            claimed.batch,
            claimed.attempt,
            ending,
            payload,
            reason,
            delay,
            params,
            self._clock.monotonic() - run.started,
            keep_from,
            end_recurring,
            None,
            claimed.queue,
            claimed.priority,
            claimed.recurring,
        )

    def _done(self, run: Run, result: object) -> Finish:
        if result is None or not run.options.store_result:
            return self._finish(run, _DONE)
        try:
            payload = dump(result, "result", limit=self._size_limit)
        except InvalidArgument as error:
            return self._finish(run, Ending.FAILED, reason=str(error))
        return self._finish(run, _DONE, payload=payload)

    def _again(self, run: Run, outcome: Again) -> Finish:
        try:
            params = None if outcome.params is None else dump(outcome.params, "params")
        except InvalidArgument as error:
            return self._finish(run, Ending.FAILED, reason=str(error))
        return self._finish(run, Ending.AGAIN, delay=seconds(outcome.after, "after"), params=params)


def _failed(error: BaseException) -> Fail:
    return Fail(describe(error), error=to_json(error))
