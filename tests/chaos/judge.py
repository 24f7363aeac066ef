"""Judge a chaos run by all journals and the database's own history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rota.core.task import Stored
from rota.testing import history
from rota.testing.history import Violation
from tests.chaos.journal import read_effects
from tests.chaos.works import ATTEMPTS
from tests.chaos.world import ChildRow, Definition, Ending, Fired, Turn, World

#: All processes are on one machine, but a wall clock may be read a little late.
SLACK = 0.05
#: Attempt rows of outcomes an attempt has said; ``lost`` is said by others.
_LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The figures of a run, and every promise it broke."""

    acknowledged: int
    tasks: int
    attempts: int
    accepted: int
    refused: int
    rescued: int
    repeated: int  #: tasks whose effect happened more than once
    fire_times: int
    vanished: int = 0  #: acknowledgements and acceptances that went with a primary
    violations: list[Violation] = field(default_factory=list)

    def count(self, *verdicts: str) -> int:
        return sum(one.verdict in verdicts for one in self.violations)

    def lines(self) -> list[str]:
        """The figures, aligned; those that must be 0 say so."""
        twice = self.count("ended_twice", "token_twice", "accepted_elsewhere")
        rows = [
            ("tasks", self.tasks, f"{self.acknowledged} of them acknowledged to clients"),
            ("attempts started", self.attempts, ""),
            ("outcomes accepted", self.accepted, ""),
            ("outcomes refused", self.refused, "of attempts that had lost their lease"),
            ("rescued", self.rescued, "attempts taken back from the dead"),
            ("effects repeated", self.repeated, "tasks; at least once is the promise"),
            ("gone with a primary", self.vanished, "acknowledged or accepted shortly before"),
            ("fire times", self.fire_times, "each decided once, each with one child"),
            ("lost", self.count("lost"), "must be 0"),
            ("unfinished", self.count("unfinished"), "must be 0"),
            ("accepted twice", twice, "must be 0"),
            ("overlapping", self.count("overlap"), "must be 0"),
            ("other violations", len(self.violations) - self._named(), "must be 0"),
        ]
        return [f"  {name:<20}{value:>9}  {note}".rstrip() for name, value, note in rows]

    def _named(self) -> int:
        return self.count(
            "lost", "unfinished", "ended_twice", "token_twice", "accepted_elsewhere", "overlap"
        )


def judge(
    world: World,
    directory: Path,
    *,
    poisoned: frozenset[str] = frozenset(),
    vanished: tuple[float, float] | None = None,
) -> Verdict:
    """Read everything and compare.

    ``poisoned`` tasks are the only ones that may have failed. What was said between the
    moments ``vanished`` may have gone with an asynchronous primary: it is counted, no more.
    """
    told = history.read(sorted(directory.glob("*.history.jsonl")))
    endings, turns = world.endings(), world.turns()
    events = told if vanished is None else surviving(told, endings, turns, world, vanished)
    unfinished, children = world.unfinished(), world.children()
    effects = list(read_effects(sorted(directory.glob("*.effects.jsonl"))))
    acknowledged = {one.task for one in events if isinstance(one, history.Scheduled)}
    decisions = world.fired()
    violations = [
        *history.check(settled(events, endings, turns), slack=SLACK),
        *lost(acknowledged, {one.task for one in endings}, set(unfinished)),
        *(Violation("unfinished", task, "still in rota_task") for task in unfinished),
        *contradictions(events, endings, turns),
        *wrong_ends(endings, poisoned),
        *reused(events),
        *without_effect(endings, {(one.task, one.token) for one in effects}),
        *wrong_fires(world.definitions(), decisions, children, endings),
    ]
    if world.waiting_for_nothing():
        violations.append(Violation("lease_left", "rota_lease", "with nothing unfinished"))
    done = Counter(one.task for one in effects)
    twice = {one.task for one in turns if one.outcome == "retry"}
    return Verdict(
        acknowledged=len(acknowledged),
        tasks=len(endings) + len(unfinished),
        attempts=sum(isinstance(one, history.Started) for one in events),
        accepted=len(endings) + sum(one.outcome != _LOST for one in turns),
        refused=sum(isinstance(one, history.Refused) for one in events),
        rescued=sum(one.outcome == _LOST for one in turns),
        repeated=sum(count > 1 + (task in twice) for task, count in done.items()),
        fire_times=len(decisions),
        vanished=len(told) - len(events),
        violations=violations,
    )


def surviving(
    events: Sequence[history.Event],
    endings: Sequence[Ending],
    turns: Sequence[Turn],
    world: World,
    vanished: tuple[float, float],
) -> list[history.Event]:
    """The events without those of that time of which the database knows nothing."""
    tasks = {one.task for one in endings} | set(world.unfinished())
    said: list[Ending | Turn] = [*endings, *turns]
    outcomes = {(one.task, one.token) for one in said}
    begin, end = vanished

    def survived(event: history.Event) -> bool:
        if not begin <= event.at <= end:
            return True
        if isinstance(event, history.Accepted):
            return (event.task, event.token) in outcomes
        return not isinstance(event, history.Scheduled) or event.task in tasks

    return [event for event in events if survived(event)]


def settled(
    events: Iterable[history.Event], endings: Sequence[Ending], turns: Sequence[Turn]
) -> list[history.Event]:
    """The events with the database's moments, and with what killed nodes could not note.

    A node may be frozen between a commit and its note of it; the database's moment is the
    one before which no other attempt may have begun.
    """
    said: list[Ending | Turn] = [*endings, *turns]
    spoken = {(one.task, one.token): one.at for one in said}
    noted: set[tuple[str, object]] = set()
    told: list[history.Event] = []
    for event in events:
        if isinstance(event, history.Accepted):
            noted.add((event.task, event.token))
            at = spoken.get((event.task, event.token), event.at)
            told.append(replace(event, at=at))
        else:
            told.append(event)
    for one in endings:
        if (one.task, one.token) not in noted:
            outcome = Stored(one.state).name.lower()
            told.append(history.Accepted(one.task, one.token, outcome, one.at))
    told += [
        history.Accepted(one.task, one.token, one.outcome, one.at)
        for one in turns
        if one.outcome != _LOST and (one.task, one.token) not in noted
    ]
    return told


def lost(acknowledged: set[str], ended: set[str], unfinished: set[str]) -> list[Violation]:
    """What a client was told is stored, and is nowhere."""
    gone = acknowledged - ended - unfinished
    return [Violation("lost", task, "acknowledged, and nowhere") for task in sorted(gone)]


def contradictions(
    events: Iterable[history.Event], endings: Sequence[Ending], turns: Sequence[Turn]
) -> list[Violation]:
    """Outcomes a node was told are accepted, of which the database knows nothing; rows double."""
    ended: dict[str, list[Ending]] = {}
    for one in endings:
        ended.setdefault(one.task, []).append(one)
    turned = Counter((one.task, one.token) for one in turns if one.outcome != _LOST)
    found = [
        Violation("ended_twice", task, f"{len(rows)} rows in history")
        for task, rows in ended.items()
        if len(rows) > 1
    ]
    found += [
        Violation("token_twice", task, f"{count} attempt rows of {token}")
        for (task, token), count in turned.items()
        if count > 1
    ]
    for event in events:
        if not isinstance(event, history.Accepted) or event.outcome in {"release", "park"}:
            continue
        known = (event.task, event.token) in turned
        if event.outcome in history.TERMINAL:
            known = any(one.token == event.token for one in ended.get(event.task, []))
        if not known:
            detail = f"{event.outcome} by {event.token} is not in history"
            found.append(Violation("accepted_elsewhere", event.task, detail))
    return found


def wrong_ends(endings: Sequence[Ending], poisoned: frozenset[str]) -> list[Violation]:
    """No work here fails, nobody cancels, and no attempt is used up by a death.

    So all are done in the attempt they ask for, but poison ends as lost.
    """
    found = []
    for one in endings:
        wanted = (Stored.FAILED, "lost") if one.task in poisoned else (Stored.DONE, None)
        if (one.state, one.reason) != wanted:
            found.append(Violation("wrong_end", one.task, f"{Stored(one.state).name} {one.reason}"))
        elif one.task not in poisoned and one.attempt != ATTEMPTS[one.work]:
            found.append(Violation("attempt_used", one.task, f"{one.work}, {one.attempt}"))
    return found


def reused(events: Iterable[history.Event]) -> list[Violation]:
    """A token names one claim for ever: with it a task starts once."""
    started = Counter((one.task, one.token) for one in events if isinstance(one, history.Started))
    return [
        Violation("token_reused", task, f"{count} starts under {token}")
        for (task, token), count in started.items()
        if count > 1
    ]


def without_effect(endings: Sequence[Ending], effects: set[tuple[str, object]]) -> list[Violation]:
    """Done, it says, but not by the attempt whose outcome counts."""
    return [
        Violation("no_effect", one.task, f"done by {one.token}, which did nothing")
        for one in endings
        if one.state == Stored.DONE and (one.task, one.token) not in effects
    ]


def wrong_fires(
    definitions: Sequence[Definition],
    decisions: Sequence[Fired],
    children: Sequence[ChildRow],
    endings: Sequence[Ending],
) -> list[Violation]:
    """With catchup all and overlap allow: one child per fire time, done, and none left out."""
    found = []
    done = {one.task for one in endings if one.state == Stored.DONE}
    for name, begin, interval, next_fire_at in rhythms(definitions):
        ticks = range(round(begin * 1000), round(next_fire_at * 1000), round(interval * 1000))
        fired = Counter(round(one.fire_at * 1000) for one in decisions if one.recurring == name)
        born = Counter(round(one.fire_at * 1000) for one in children if one.recurring == name)
        for what, counted in (("decisions", fired), ("children", born)):
            found += [
                Violation("fired_wrongly", name, f"{counted[tick]} {what} at {tick / 1000}")
                for tick in sorted({*ticks, *counted})
                if counted[tick] != 1 or tick not in ticks
            ]
    found += [
        Violation("fired_wrongly", one.recurring, f"{one.n} {one.decision} at {one.fire_at}")
        for one in decisions
        if (one.decision, one.n) != ("fired", 1)
    ]
    found += [
        Violation("unfinished", one.task, f"child of {one.recurring} at {one.fire_at}")
        for one in children
        if one.task not in done
    ]
    return found


def rhythms(definitions: Sequence[Definition]) -> list[tuple[str, float, float, float]]:
    """Name, first fire time, interval and next fire time; the first two are in the name."""
    found = []
    for one in definitions:
        _, begin, interval = one.id.split("/")
        found.append((one.id, float(begin), float(interval), one.next_fire_at))
    return found
