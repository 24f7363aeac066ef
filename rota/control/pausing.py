"""The verbs that hold queues and works back on every node, and let them go on."""

from __future__ import annotations

from collections.abc import Callable

from rota.core.duty import Offload
from rota.core.names import check_queue, check_work
from rota.core.ports import Repository
from rota.core.task import Lane


class PausingVerbs:
    """Written down for all nodes, then told to them; ``look`` has this node see to it at once."""

    def __init__(
        self,
        *,
        repository: Repository,
        offload: Offload,
        look: Callable[[], object],
        changed: Callable[[str, list[Lane]], object],
    ) -> None:
        self._repository = repository
        self._offload = offload
        self._look = look
        self._changed = changed

    async def pause_queue(self, queue: str, reason: str) -> None:
        """Start nothing more of this queue."""
        name = check_queue(queue)
        await self._offload.run(self._repository.pause_queue, name, reason)
        self._tell(f"queue:{name}", [])

    async def resume_queue(self, queue: str) -> bool:
        """Go on with it; False when it was not paused."""
        name, repository = check_queue(queue), self._repository

        def resume() -> tuple[bool, list[Lane]]:
            resumed = repository.resume_queue(name)
            return resumed, repository.agenda([name]) if resumed else []

        resumed, lanes = await self._offload.run(resume)
        if resumed:
            self._tell(f"queue:{name}", lanes)
        return resumed

    async def paused_queues(self) -> dict[str, str]:
        """The paused queues and why."""
        return await self._offload.run(self._repository.paused_queues)

    async def pause_work(self, work: str, reason: str) -> None:
        """Start nothing more of this work."""
        name = check_work(work)
        await self._offload.run(self._repository.pause_work, name, reason)
        self._tell(f"work:{name}", [])

    async def resume_work(self, work: str) -> bool:
        """Go on with it; False when it was not paused."""
        name = check_work(work)
        resumed = await self._offload.run(self._repository.resume_work, name)
        if resumed:
            self._tell(f"work:{name}", [])
        return resumed

    async def paused_works(self) -> dict[str, str]:
        """The paused works and why."""
        return await self._offload.run(self._repository.paused_works)

    def _tell(self, what: str, lanes: list[Lane]) -> None:
        self._look()
        self._changed(what, lanes)
