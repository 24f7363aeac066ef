"""What the claimer knows of each lane: whether it holds work, and where to begin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rota.core.task import Claimed, Lane, Want


@dataclass(slots=True)
class _State:
    cursor: int | None = None
    ready: bool = False  #: may hold what is due
    ahead: bool = False  #: may hold what is due within the look-ahead


class Lanes:
    """The lanes of the served queues, which of them are worth a claim, and their cursors.

    Of each queue only the highest lane that may hold work is asked for, so a lower
    priority never takes a slot from a higher one. A cursor is the ``run_at`` reached so
    far: a claim that begins there need not walk over what earlier claims have taken,
    which matters when an old transaction keeps the dead rows from being cleaned away. It
    is dropped when a claim comes back short, and by ``rescan``, which finds what was
    committed late behind it.
    """

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, int], _State] = {}
        self._turn = 0

    @property
    def active(self) -> bool:
        """Whether some lane may hold work that is due; any thread."""
        return self.behind(None)

    def behind(self, room: dict[str, int] | None) -> bool:
        """Whether one of these may be in a queue that has room; any thread."""
        lanes = list(self._lanes.items())
        return any(
            state.ready and (room is None or room.get(queue, 1) > 0) for (queue, _), state in lanes
        )

    @property
    def wanting(self) -> bool:
        """Whether some lane may hold work that is due, or due within the look-ahead; any thread."""
        return any(state.ready or state.ahead for state in list(self._lanes.values()))

    def hint(self, queue: str, priority: int) -> None:
        """Something in this lane is due within the look-ahead."""
        state = self._lanes.setdefault((queue, priority), _State())
        state.ready = state.ahead = True

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
        """What to ask now: queues in turn, an equal share each, their highest lanes only."""
        queues: dict[str, list[tuple[int, _State]]] = {}
        for (queue, priority), state in self._lanes.items():
            if (state.ready and ready > 0) or (state.ahead and ahead > 0):
                queues.setdefault(queue, []).append((priority, state))
        if room is not None:
            queues = {name: lanes for name, lanes in queues.items() if room.get(name, 1) > 0}
        if not queues:
            return []
        names = sorted(queues)
        self._turn += 1
        at = self._turn % len(names)
        wants: list[Want] = []
        for name in names[at:] + names[:at]:
            most = -(-max(0, ready) // len(names))
            soon = -(-max(0, ahead) // len(names))
            if room is not None and name in room:
                most, soon = min(most, room[name]), min(soon, room[name])
            wants += self._of_queue(name, queues[name], most, soon)
        return wants

    @staticmethod
    def _of_queue(
        name: str, lanes: list[tuple[int, _State]], most: int, soon: int
    ) -> Iterable[Want]:
        for priority, state in sorted(lanes, key=lambda item: -item[0]):
            now, later = most if state.ready else 0, soon if state.ahead else 0
            if now or later:
                yield Want(name, priority, now, later, state.cursor)
            most, soon = most - now, soon - later
            if most <= 0 and soon <= 0:
                return

    def took(self, wants: Iterable[Want], claimed: Iterable[Claimed]) -> None:
        """Move the cursors; what came back short needs no claim until a hint or an agenda."""
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
            if want.ready:
                runs = ready.get(key, [])
                state.ready = len(runs) >= want.ready
                state.cursor = max(runs) if state.ready else None
            if want.ahead and ahead.get(key, 0) < want.ahead:
                state.ahead = False

    def forget(self) -> None:
        """Know nothing: a new agenda is needed."""
        self._lanes.clear()
