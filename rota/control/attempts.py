"""What a running attempt can have done for it: report, spawn, complete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from rota.control.handle import TaskHandle
from rota.control.pulling import WithFollowUp
from rota.core.codec import SIZE_LIMIT, dump
from rota.core.context import BlockingChild, Child, Facts
from rota.core.duty import Offload
from rota.core.ids import child_id
from rota.core.names import check_key
from rota.core.options import decode_options
from rota.core.ports import Repository
from rota.core.request import ScheduleRequest
from rota.core.task import Ending, Fence, Finish
from rota.errors import InvalidArgument, LeaseLost

T = TypeVar("T")


class AttemptDesk:
    """Serves the contexts of this scheduler's runs; every write is fenced by their tokens."""

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        make: Callable[[Any, Any, Mapping[str, Any]], ScheduleRequest],
        store: Callable[[ScheduleRequest], Awaitable[TaskHandle[Any]]],
        blocking: Callable[[TaskHandle[Any]], BlockingChild[Any]],
        wait_for: Callable[[Coroutine[Any, Any, Any]], Any],
        transactional: Callable[[str], bool],
        run_in: Callable[[object, Callable[[object], Any]], Awaitable[Any]],
        with_follow_up: WithFollowUp | None = None,
        as_json: Callable[[str, Any], Any] = lambda _, result: result,
        size_limit: int = SIZE_LIMIT,
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._make = make
        self._store = store
        self._blocking = blocking
        self._wait_for = wait_for
        self._transactional = transactional
        self._run_in = run_in
        self._with_follow_up = with_follow_up
        self._as_json = as_json
        self._size_limit = size_limit

    async def report(self, facts: Facts, n: int, data: Any) -> None:
        """Store the newest progress; an older one that comes late is passed over."""
        text = dump(data, "data", limit=self._size_limit)
        await self._offload.run(
            self._repository.report, facts.token.node, facts.task_id, facts.token.batch, n, text
        )

    async def spawn(
        self, facts: Facts, work: Any, params: Any, key: str | None, options: Mapping[str, Any]
    ) -> Child[Any]:
        """Schedule a child through the chain; its insert is fenced by the parent's token."""
        if key is not None and options.get("id") is not None:
            raise InvalidArgument("key and id exclude each other; give one", field="key")
        own = dict(options)
        if key is not None:
            own["id"] = child_id(facts.task_id, check_key(key, "key"))
            own.setdefault("on_conflict", "return")
        request = self._make(work, params, own)
        fence = Fence(facts.token.node, facts.token.batch, facts.task_id)
        return await self._store(request.replace(parent=facts.task_id, fence=fence))

    async def complete(self, facts: Facts, connection: object, result: Any) -> None:
        """Write the completion into the caller's transaction."""
        if not self._transactional(facts.work):
            raise InvalidArgument(
                f"work {facts.work!r} is not registered transactional=True; "
                "only such works have a lease of their own to complete in a transaction",
                field="connection",
            )
        options = decode_options(facts._claimed.options)  # noqa: SLF001 - the context is ours
        finish = Finish(
            facts.task_id,
            facts.token.batch,
            facts.attempt,
            Ending.DONE,
            payload=self._payload(facts.work, result) if options.store_result else None,
            queue=facts.queue,
        )
        if self._with_follow_up is not None:
            finish = await self._with_follow_up(facts.task_id, options, finish)
        before, facts.completed = facts.completed, True
        node = facts.token.node
        try:
            await self._run_in(
                connection, lambda plain: self._repository.finish_in(plain, node, finish)
            )
        except (InvalidArgument, LeaseLost):
            facts.completed = before  # for certain nothing was written
            raise

    def _payload(self, work: str, result: Any) -> str | None:
        if result is None:
            return None
        return dump(self._as_json(work, result), "result", limit=self._size_limit)

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the loop, block this worker's thread for it."""
        return self._wait_for(coroutine)

    def blocking(self, child: Child[Any]) -> BlockingChild[Any]:
        """A spawned child's handle for threads."""
        if not isinstance(child, TaskHandle):
            raise TypeError(f"{child!r} was not spawned here")
        return self._blocking(child)
