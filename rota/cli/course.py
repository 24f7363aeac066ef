"""How the demonstration goes, put together from the nodes' logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rota.cli.nodelog import Entry
from rota.core.context import Token
from rota.testing import history

#: Where a node's outcome ends its task.
_FINAL = frozenset({"done", "failed", "cancelled"})


class Running(NamedTuple):
    """An attempt that has started and whose outcome is not written."""

    task: str
    token: Token
    at: float


class Course:
    """What is known of tasks and nodes; ``due`` are the moments tasks were asked for."""

    def __init__(self) -> None:
        self.due: dict[str, float] = {}
        self.ended: dict[str, str] = {}
        self.first_start: dict[str, float] = {}
        self.entries: list[tuple[str, Entry]] = []
        self.refused: Counter[str] = Counter()
        self.late_results: Counter[str] = Counter()
        self.done_by: Counter[str] = Counter()
        self.ready: dict[str, int] = {}
        self._running: dict[str, dict[tuple[str, Token], Running]] = {}

    def follow(self, name: str, entries: Sequence[Entry]) -> None:
        """Take in what this node has written since."""
        running = self._running.setdefault(name, {})
        for entry in entries:
            self.entries.append((name, entry))
            token = Token(entry.node, entry.batch)
            match entry.kind:
                case "ready":
                    self.ready[name] = entry.node
                case "started":
                    running[entry.task, token] = Running(entry.task, token, entry.at)
                    self.first_start.setdefault(entry.task, entry.at)
                case "accepted":
                    running.pop((entry.task, token), None)
                    if entry.outcome in _FINAL:
                        self.ended[entry.task] = entry.outcome
                        self.done_by[name] += 1
                case "refused":
                    running.pop((entry.task, token), None)
                    self.refused[name] += 1
                    self.late_results[name] += entry.outcome == "done"
                case _:
                    pass  # took_back and died are looked up among the entries

    def running(self, name: str) -> list[Running]:
        """The node's attempts that are on, oldest first."""
        return sorted(self._running.get(name, {}).values(), key=lambda run: run.at)

    def forget_running(self, name: str) -> None:
        """The node is dead: nothing runs there."""
        self._running[name] = {}

    def delays(self) -> list[float]:
        """Seconds from due to the first start, of all tasks that have started, in order."""
        due = self.due
        # A wall clock that is set back between the two would show a start before its time;
        # whether there was one is the history checker's to say.
        return sorted(
            max(0.0, at - due[task]) for task, at in self.first_start.items() if task in due
        )

    def started_elsewhere(self, tasks: set[str], name: str, since: float) -> float | None:
        """When the first of these tasks started on another node after that moment."""
        return next(
            (
                entry.at
                for other, entry in sorted(self.entries, key=lambda item: item[1].at)
                if entry.kind == "started"
                and other != name
                and entry.at > since
                and entry.task in tasks
            ),
            None,
        )

    def taken_back(self, tasks: set[str], since: float) -> bool:
        """Whether some node took back one of these after that moment."""
        return any(
            entry.kind == "took_back" and entry.at > since and not tasks.isdisjoint(entry.tasks)
            for _, entry in self.entries
        )

    def history(self) -> list[history.Event]:
        """The same as the history checker reads it."""
        events: list[history.Event] = [
            history.Scheduled(task, due, due) for task, due in self.due.items()
        ]
        for _, entry in self.entries:
            token = Token(entry.node, entry.batch)
            match entry.kind:
                case "started":
                    start = history.Started(entry.task, entry.attempt, token, entry.node, entry.at)
                    events.append(start)
                case "accepted":
                    events.append(history.Accepted(entry.task, token, entry.outcome, entry.at))
                case "refused":
                    events.append(history.Refused(entry.task, token, entry.outcome, entry.at))
                case _:
                    pass  # no event of a task
        return events


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the ordered values lies; 0 without any."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
