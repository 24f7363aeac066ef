"""Somebody who is no node, and claims by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rota.core.ids import new_incarnation
from rota.core.ports import Repository
from rota.core.task import Claimed, Ending, Finish, Stored, Want
from rota.testing.conformance.setting import ending

FIVE_MINUTES = 300.0
BATCH = 1


class Puller:
    """One pulled claim: an owner that never joined."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.id: int = new_incarnation()

    def claim(self, *wants: Want, ready: int = 100, lease: float = FIVE_MINUTES) -> list[Claimed]:
        """Claim, from the default lane unless told."""
        asked = wants or (Want("default", 0, ready),)
        return self.repository.claim_until(self.id, BATCH, asked, lease)

    def claim_parked(
        self, *queues: str, limit: int = 100, lease: float = FIVE_MINUTES, **how: Any
    ) -> list[Claimed]:
        """Claim what is parked; of all queues, unless some are named."""
        return self.repository.claim_parked_until(
            self.id, BATCH, queues or None, limit, lease, **how
        )

    def finish(self, *finishes: Finish, over: Sequence[int] = ()) -> list[Stored | None]:
        """Write outcomes."""
        return self.repository.finish(self.id, finishes, over)

    def end(self, claimed: Claimed, kind: Ending = Ending.DONE) -> Stored | None:
        """Write the outcome of the one task its batch held."""
        (answer,) = self.finish(ending(claimed, kind), over=[claimed.batch])
        return answer
