"""The rules of firing, the same on every database: which tick wins, what becomes of its child."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, Self

from rota.core.recurring import DecisionKind, Fire, Fired
from rota.core.task import Inserted, NewTask, Stored
from rota.errors import StorageUnavailable

#: A definition whose ticks wait for a child is looked at again after so many seconds.
LOOK_AGAIN = 5.0
#: Children that have ended are forgotten when they are counted, so many at a time.
PRUNED = 1000

Tick = tuple[Fire, NewTask | None]
_LOST = Fired(None)


@dataclass(slots=True, kw_only=True)
class Standing:
    """A definition under its lock, as the ticks of one call move it on."""

    next_fire_at: datetime | None
    last_fire_at: datetime | None
    paused: bool
    version: int
    runs: int
    waiting: bool = False  #: for a child to end; to be looked at again later

    def wins(self, tick: Fire) -> bool:
        """Whether this tick is the one that is next to be decided."""
        if tick.by_hand:
            return True
        return (
            not (self.paused or self.waiting)
            and self.next_fire_at == tick.expected
            and tick.version in {None, self.version}
        )

    def over(self, tick: Fire) -> bool:
        """Whether the last of its runs has been made."""
        return not tick.by_hand and tick.max_runs is not None and self.runs >= tick.max_runs


@dataclass(slots=True)
class Entry:
    """A decision on its way into the record; the database adds the time."""

    recurring: str
    fire_at: datetime
    decision: DecisionKind
    count: int
    task: str | None
    version: int

    @classmethod
    def of(cls, tick: Fire, decision: DecisionKind, task: str | None, version: int) -> Self:
        """What the tick came to."""
        return cls(tick.recurring, tick.fire_at, decision, tick.count, task, version)


class Made(NamedTuple):
    """Whose child a task is, and that one's version then."""

    recurring: str
    version: int


@dataclass(slots=True)
class Verdict:
    """What a call has decided, to be written: definitions, unfinished children, decisions."""

    standings: dict[str, Standing] = field(default_factory=dict)
    children: dict[str, Made] = field(default_factory=dict)  #: by the task's id
    entries: dict[tuple[str, datetime, DecisionKind], Entry] = field(default_factory=dict)

    def enter(self, tick: Fire, decision: DecisionKind, task: str | None, version: int) -> None:
        """Record it; two of a kind about one fire time are one decision."""
        key = (tick.recurring, tick.fire_at, decision)
        known = self.entries.get(key)
        if known is None:
            self.entries[key] = Entry.of(tick, decision, task, version)
        else:
            known.count += tick.count
            known.task, known.version = task, version


class Ledger(Protocol):
    """A database within the transaction of one ``fire``."""

    def lock(self, ids: Sequence[str], by_hand: Sequence[str]) -> dict[str, Standing]:
        """The definitions that exist, locked until the end.

        What another node has locked is left out of ``ids`` and waited for in ``by_hand``.
        """

    def unfinished(self, most: Mapping[str, int]) -> dict[str, int]:
        """How many children of each definition have not ended, counted up to so many."""

    def insert(self, children: Sequence[NewTask]) -> list[Inserted]:
        """Enter children that should meet nobody, together."""

    def insert_keyed(self, child: NewTask) -> Inserted | None:
        """Enter a child that may meet another; None if somebody's transaction holds it up."""

    def write(self, verdict: Verdict) -> None:
        """Write what was decided; the children's tasks are in."""


def decide(ledger: Ledger, fires: Sequence[Tick]) -> list[Fired]:
    """Decide the ticks in order; one answer each. Runs in the ledger's transaction."""
    return _Deciding(ledger=ledger, fires=fires).answers()


class _Deciding:
    """One call: it locks once, counts once, inserts once, writes once, whatever the ticks.

    Only children that may meet another are entered one by one.
    """

    def __init__(self, *, ledger: Ledger, fires: Sequence[Tick]) -> None:
        self._ledger = ledger
        self._fires = fires
        self._answers = [_LOST] * len(fires)
        self._verdict = Verdict()
        self._plain: dict[int, NewTask] = {}
        self._standings: dict[str, Standing] = {}
        self._unfinished: dict[str, int] = {}

    def answers(self) -> list[Fired]:
        self._lock()
        self._count()
        for place, (tick, child) in enumerate(self._fires):
            standing = self._standings.get(tick.recurring)
            if standing is not None and standing.wins(tick):
                self._decide(place, tick, child, standing)
        self._enter_plain()
        if self._verdict.standings or self._verdict.entries:
            self._ledger.write(self._verdict)
        return self._answers

    def _lock(self) -> None:
        by_hand = {tick.recurring for tick, _ in self._fires if tick.by_hand}
        others = {tick.recurring for tick, _ in self._fires} - by_hand
        self._standings = self._ledger.lock(sorted(others), sorted(by_hand))

    def _count(self) -> None:
        """Unfinished children, of those definitions for which that may matter."""
        most: dict[str, int] = {}
        winning: set[str] = set()
        for tick, child in self._fires:
            standing = self._standings.get(tick.recurring)
            if standing is not None and not tick.by_hand and standing.wins(tick):
                winning.add(tick.recurring)
            if child is not None and _minds(tick):
                most[tick.recurring] = max(tick.max_instances, most.get(tick.recurring, 0))
        wanted = {one: most[one] for one in sorted(winning & most.keys())}
        if wanted:
            self._unfinished = dict(self._ledger.unfinished(wanted))

    def _decide(self, place: int, tick: Fire, child: NewTask | None, standing: Standing) -> None:
        if standing.over(tick):
            self._move(tick, standing, None)
        elif child is None:
            self._move(tick, standing, tick.following)
            self._record(place, tick, tick.decision, tick.task)
        elif _minds(tick) and self._unfinished.get(tick.recurring, 0) >= tick.max_instances:
            self._refuse(place, tick, standing)
        elif child.keyed:
            met = self._ledger.insert_keyed(child)
            if met is not None:
                self._fire(place, tick, met, standing)
            elif tick.by_hand:
                raise StorageUnavailable(
                    f"the unique key of {tick.recurring!r}'s child is held by a transaction "
                    "that has not ended; try again"
                )
        else:
            self._plain[place] = child
            self._fire(place, tick, Inserted(child.id, True, Stored.SCHEDULED), standing)

    def _refuse(self, place: int, tick: Fire, standing: Standing) -> None:
        """As many children as there may be have not ended."""
        if tick.overlap == "queue":
            standing.waiting = True
            self._verdict.standings[tick.recurring] = standing
            self._answers[place] = Fired("waiting")
        else:
            self._move(tick, standing, tick.following)
            self._record(place, tick, "skipped", None)

    def _fire(self, place: int, tick: Fire, met: Inserted, standing: Standing) -> None:
        name = tick.recurring
        if not tick.by_hand:
            standing.runs += met.created
            standing.last_fire_at = tick.fire_at
        if met.created:
            self._unfinished[name] = self._unfinished.get(name, 0) + 1
            self._verdict.children[met.id] = Made(name, standing.version)
        self._move(tick, standing, None if standing.over(tick) else tick.following)
        self._record(place, tick, tick.decision, met.id, created=met.created)

    def _move(self, tick: Fire, standing: Standing, following: datetime | None) -> None:
        """Let the definition go on; a tick by hand leaves its rhythm alone."""
        if not tick.by_hand:
            standing.next_fire_at = following
            self._verdict.standings[tick.recurring] = standing

    def _record(
        self,
        place: int,
        tick: Fire,
        decision: DecisionKind,
        task: str | None,
        *,
        created: bool = False,
    ) -> None:
        self._answers[place] = Fired(decision, task, created)
        version = self._standings[tick.recurring].version
        self._verdict.enter(tick, decision, task, version)

    def _enter_plain(self) -> None:
        if not self._plain:
            return
        answers = self._ledger.insert(list(self._plain.values()))
        for place, met in zip(self._plain, answers, strict=True):
            if not met.created:
                self._take_back(place, met)

    def _take_back(self, place: int, met: Inserted) -> None:
        """Its id was somebody's already: it was decided, but made no child."""
        tick, _ = self._fires[place]
        self._answers[place] = self._answers[place]._replace(created=False)
        self._verdict.children.pop(met.id, None)
        if not tick.by_hand:
            self._standings[tick.recurring].runs -= 1


def _minds(tick: Fire) -> bool:
    """Whether it looks at other children before it makes one."""
    return tick.overlap != "allow" and not tick.by_hand
