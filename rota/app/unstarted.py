"""Hand back what was claimed and has not started, also while the loop stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rota.scheduler.executor import Held
from rota.scheduler.intake import Intake


class WatchedIntake(Intake):
    """An intake whose unstarted tasks can be handed back from a thread that is not the loop's.

    Each held task is kept here until it starts or is given back. Whoever takes it out,
    in one atomic step, decides what becomes of it.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._unstarted: dict[Held, None] = {}
        self._dead: set[int] = set()  #: incarnations of this process that were buried

    def hold(self, entries: Sequence[Held]) -> None:
        self._unstarted.update(dict.fromkeys(entries))
        # One that died between its claim's answer and now was forgotten before it was held.
        for node in {held.node for held in entries} & self._dead:
            self.forget(node)

    def starts(self, held: Held) -> bool:
        """Whether it may start, and was not handed back meanwhile; on the loop."""
        return self._take_out(held)

    def give_back(self, held: Held) -> None:
        # What has started was taken out then, and ends by this.
        if held.running is not None or self._take_out(held):
            super().give_back(held)

    def hand_back(self) -> int:
        """Release what has not started; how many tasks that were. From any thread."""
        taken = [held for held in list(self._unstarted) if self._take_out(held)]
        for held in taken:
            super().give_back(held)
        return len(taken)

    def forget(self, node: int) -> None:
        """An incarnation died: nothing it claimed may start, or be released by us."""
        self._dead.add(node)
        for held in list(self._unstarted):
            if held.node == node:
                self._take_out(held)

    def _take_out(self, held: Held) -> bool:
        return self._unstarted.pop(held, self) is None
