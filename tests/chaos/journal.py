"""What clients and works note on disk, outside of the database under test, before they go on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from rota.core.context import Token
from rota.testing import history


class Effect(NamedTuple):
    """A work did what it is there for, under this attempt's token."""

    task: str
    token: Token
    at: float


class Journal:
    """Append-only lines, each on the disk when ``write`` or ``effect`` returns.

    One file per process: what a killed process leaves is at most half a line at the end.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, *events: history.Event) -> None:
        """Lines that :func:`rota.testing.history.read` understands."""
        self._append(*({"event": type(event).__name__, **asdict(event)} for event in events))

    def effect(self, effect: Effect) -> None:
        self._append(effect._asdict())

    def _append(self, *lines: dict[str, object]) -> None:
        data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        with self._lock:
            os.write(self._file, data)
            os.fdatasync(self._file)


def read_effects(paths: Iterable[Path]) -> Iterator[Effect]:
    """The effects of all files; half a line is passed over."""
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                data = json.loads(line)
                yield Effect(data["task"], Token(*data["token"]), data["at"])
