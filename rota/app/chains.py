"""The chain of one scheduler: the user's middleware and the built-in ones, in both directions."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.request import ScheduleRequest
from rota.core.run import ExecuteNext
from rota.core.task import Inserted
from rota.errors import MiddlewareOrderError
from rota.middleware.chain import (
    Middleware,
    as_middleware,
    check_order,
    compose_execute,
    is_blocking,
)
from rota.middleware.storage import StorageMiddleware
from rota.registry import WorkRegistry
from rota.scheduler.executor import Route


def build_chain(
    own: Sequence[object], builtin: Sequence[Middleware], works: WorkRegistry
) -> list[Middleware]:
    """From the caller to the clock; raises ``MiddlewareOrderError`` for one that cannot stand."""
    chain = [as_middleware(item) for item in own]
    given = {item.place for item in chain}
    if StorageMiddleware.place in given:
        raise MiddlewareOrderError(
            "the storage middleware is put at the clock end by the scheduler; "
            "take it out of middleware="
        )
    for item in builtin:
        if item.place not in given:
            at = next((n for n, own in enumerate(chain) if own.place > item.place), len(chain))
            chain.insert(at, item)
    check_order(chain)
    blocking = [item for item in chain if is_blocking(item)]
    others = [work.id for work in works if work.runner != "thread"]
    if blocking and others:
        raise MiddlewareOrderError(
            f"{blocking[0]!r} has an on_execute that is not async, which can only run in "
            f"a worker's thread, but {others[0]!r} does not run in one; make it async"
        )
    return chain


async def end_of_chain(request: ScheduleRequest) -> Inserted:
    """What stands behind the storage middleware: nothing may get here."""
    raise MiddlewareOrderError(f"no storage at the clock end took task {request.id}")


class Routes:
    """How tasks of each work id run here; looked up once per work and registry version."""

    def __init__(
        self, *, works: WorkRegistry, chain: Sequence[Middleware], call_work: ExecuteNext
    ) -> None:
        self._works = works
        self._execute = compose_execute(chain, call_work)
        self._known: dict[str, Route | None] = {}
        self._alone: Sequence[str] | None = None
        self._version = -1

    def _look_for_new(self) -> None:
        """Forget what was looked up before the registry's last change."""
        if self._version != self._works.version:
            self._version = self._works.version
            self._known = {}
            self._alone = None

    def alone(self) -> Sequence[str]:
        """The transactional works, whose tasks get leases of their own; asked at each claim."""
        self._look_for_new()
        alone = self._alone
        if alone is None:
            # Kept in a local: the loop's thread asks, too, and may forget it meanwhile.
            alone = self._alone = [
                name
                for name in self._works.ids()
                if any(work.options.transactional for work in self._works.lookup(name))
            ]
        return alone

    def find(self, work_id: str) -> Route | None:
        """The route, or None if nobody here knows the work."""
        self._look_for_new()
        try:
            return self._known[work_id]
        except KeyError:
            works = self._works.lookup(work_id)
            route = Route(works, self._execute) if works else None
            self._known[work_id] = route
            return route
