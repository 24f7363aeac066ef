"""The verbs that count, group failures, and look at the nodes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from rota.core.clock import Clock, Seconds, instant, seconds
from rota.core.duty import Offload
from rota.core.finding import Counts, Failures, NodeInfo, check_limit
from rota.core.ports import Repository
from rota.core.task import Task
from rota.errors import InvalidArgument


class CountingVerbs:
    """Looks that stay fast whatever is in the database."""

    def __init__(self, *, repository: Repository, offload: Offload, clock: Clock) -> None:
        self._repository = repository
        self._offload = offload
        self._clock = clock

    async def counts(self, by: str, since: datetime | Seconds | None) -> dict[str, Counts]:
        """Counts per queue or work, by name; what is paused is there even if it is empty."""
        if by not in {"queue", "work"}:
            raise InvalidArgument(f"by {by!r} must be 'queue' or 'work'", field="by")
        repository, moment = self._repository, self._instant(since)

        def look() -> tuple[dict[str, Any], dict[str, str]]:
            paused = repository.paused_queues() if by == "queue" else repository.paused_works()
            return repository.counts_by(by, moment), paused

        found, paused = await self._offload.run(look)
        return {
            name: Counts(
                **{state.name.lower(): count for state, count in found.get(name, {}).items()},
                paused=paused.get(name),
            )
            for name in sorted(found.keys() | paused.keys())
        }

    async def failures(self, since: datetime | Seconds | None, limit: int) -> list[Failures]:
        """What failed lately, grouped by work and error; the latest group first."""
        most = check_limit(limit)
        return await self._offload.run(self._repository.failures, self._instant(since), most)

    async def nodes(self) -> list[NodeInfo]:
        """All nodes that are not declared dead, the oldest first."""
        return await self._offload.run(self._repository.node_infos)

    async def running(self, node: int | None, limit: int) -> list[Task]:
        """Tasks that are worked on, by id."""
        return await self._offload.run(self._repository.running, node, check_limit(limit))

    def _instant(self, since: datetime | Seconds | None) -> datetime | None:
        if since is None or isinstance(since, datetime):
            return None if since is None else instant(since, "since")
        return self._clock.now() - timedelta(seconds=seconds(since, "since"))
