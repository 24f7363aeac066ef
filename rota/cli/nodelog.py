"""What each node of the demonstration writes down as it happens, and the parent reads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple, Self

from rota.core.events import Died, Event, Finished, Started, TookBack, Unfit
from rota.core.task import Stored

_FINAL = frozenset({Stored.DONE, Stored.FAILED, Stored.CANCELLED})


class Entry(NamedTuple):
    """One line: what was told (``kind``), when, and whose token or which tasks it is about.

    ``at`` is wall time; all processes of the demonstration are on one machine.
    """

    kind: str
    at: float
    node: int = 0
    batch: int = 0
    task: str = ""
    attempt: int = 0
    outcome: str = ""
    tasks: tuple[str, ...] = ()


class NodeLog:
    """Appends what a scheduler tells its listener; each line has left the process at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def ready(self, node: int) -> None:
        """The node has joined and works."""
        self._write(Entry("ready", time.time(), node))

    def hear(self, event: Event) -> None:
        """The scheduler's ``on_event``."""
        self._write(_entry(event, time.time()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def _write(self, entry: Entry) -> None:
        self._file.write(json.dumps(entry._asdict(), separators=(",", ":")) + "\n")
        self._file.flush()


class Tail:
    """Reads a node's log as it grows; half a line, of a node that was killed, is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def read(self) -> list[Entry]:
        """The entries since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [_decode(line) for line in whole.splitlines()]


def _entry(event: Event, at: float) -> Entry:
    match event:
        case Started(task=task, attempt=attempt, token=token):
            return Entry("started", at, token.node, token.batch, task, attempt)
        case Finished(task=task, attempt=attempt, token=token, ending=ending, state=state):
            kind = "refused" if state is None else "accepted"
            outcome = str(state.public) if state in _FINAL else ending.name.lower()
            return Entry(kind, at, token.node, token.batch, task, attempt, outcome)
        case TookBack(tasks=tasks):
            return Entry("took_back", at, tasks=tasks)
        case Died(node=node):
            return Entry("died", at, node)
        case Unfit():
            return Entry("unfit", at)


def _decode(line: bytes) -> Entry:
    values = json.loads(line)
    values["tasks"] = tuple(values["tasks"])
    return Entry(**values)
