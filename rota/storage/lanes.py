"""What the claimer knows of each lane: whether it holds work, and where to begin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rota.core.task import Claimed, Lane, Want


@dataclass(slots=True)
class _State:
    cursor: int | None = None
    active: bool = False


class Lanes:
    """The lanes of the served queues, which of them are worth a claim, and their cursors.

    A cursor is the ``run_at`` reached so far: a claim that begins there need not walk
    over what earlier claims have taken, which matters when an old transaction keeps
    the dead rows from being cleaned away. It is dropped when a claim comes back
    short, and by ``rescan``, which finds what was committed late behind it.
    """

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, int], _State] = {}
        self._turn = 0

    @property
    def active(self) -> bool:
        return any(state.active for state in self._lanes.values())

    def hint(self, queue: str, priority: int) -> None:
        """Something in this lane is due within the look-ahead."""
        self._lanes.setdefault((queue, priority), _State()).active = True

    def learn(self, agenda: Iterable[Lane], look_ahead: float) -> float:
        """Take over an agenda; in how many seconds the first lane beyond it needs a claim."""
        following = float("inf")
        for lane in agenda:
            if lane.due_in <= look_ahead:
                self.hint(lane.queue, lane.priority)
            else:
                following = min(following, lane.due_in - look_ahead)
        return following

    def rescan(self) -> None:
        """Begin every lane at its front again."""
        for state in self._lanes.values():
            state.cursor = None

    def wants(self, ready: int, ahead: int, room: dict[str, int] | None = None) -> list[Want]:
        """What to ask: each queue's lanes by priority, queues in turn, each an equal share."""
        queues: dict[str, list[tuple[int, _State]]] = {}
        for (queue, priority), state in self._lanes.items():
            if state.active:
                queues.setdefault(queue, []).append((priority, state))
        if room is not None:
            queues = {name: lanes for name, lanes in queues.items() if room.get(name, 1) > 0}
        if not queues:
            return []
        names = sorted(queues)
        self._turn += 1
        at = self._turn % len(names)
        share = -(-ready // len(names))
        wants = []
        for name in names[at:] + names[:at]:
            most = share if room is None else min(share, room.get(name, share))
            for priority, state in sorted(queues[name], key=lambda item: -item[0]):
                wants.append(Want(name, priority, most, ahead, state.cursor))
        return wants

    def took(self, wants: Iterable[Want], claimed: Iterable[Claimed]) -> None:
        """Move the cursors; lanes that came back short need no claim until a hint."""
        ready: dict[tuple[str, int], list[int]] = {}
        ahead: dict[tuple[str, int], int] = {}
        for item in claimed:
            key = (item.queue, item.priority)
            if item.due_in <= 0:
                ready.setdefault(key, []).append(item.run_at)
            else:
                ahead[key] = ahead.get(key, 0) + 1
        for want in wants:
            key = (want.queue, want.priority)
            state = self._lanes[key]
            runs = ready.get(key, [])
            if len(runs) >= want.ready > 0:
                state.cursor = max(runs)
            else:
                state.cursor = None
                if want.ready > 0 and (ahead.get(key, 0) < want.ahead):
                    state.active = False

    def forget(self) -> None:
        """Know nothing: a new agenda is needed."""
        self._lanes.clear()
