"""The demonstration's progress: a block redrawn in place, or a plain line each second."""

from __future__ import annotations

import os
import shutil
import time
from typing import TextIO

from rota.cli.course import Course, quantile
from rota.cli.fleet import Fleet
from rota.cli.verdict import span

_REDRAW, _LINE = 0.25, 1.0


class Screen:
    """Shows how it goes on a terminal, in a pipe, or (``quiet``) not at all."""

    def __init__(self, out: TextIO, *, course: Course, fleet: Fleet, quiet: bool) -> None:
        self._out = out
        self._course = course
        self._fleet = fleet
        self._quiet = quiet
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._began = time.monotonic()
        self._next = self._began
        self._drawn = 0

    def begin(self) -> None:
        """The clock that is shown starts now."""
        self._began = time.monotonic()

    def say(self, line: str) -> None:
        """A line of its own, above the block."""
        if not self._quiet:
            self._erase()
            self._write([line])

    def update(self, *, force: bool = False) -> None:
        """Show the present state if it is time."""
        now = time.monotonic()
        if self._quiet or (now < self._next and not force):
            return
        self._next = now + (_REDRAW if self._live else _LINE)
        if self._live:
            # A line that wrapped would be two to go back over.
            width = shutil.get_terminal_size().columns - 1
            block = [line[:width] for line in (*self._totals(), *self._members(), "")]
            self._erase()
            self._write(block)
            self._drawn = len(block)
        else:
            self._write([" | ".join([*self._totals(), *self._members()])])

    def _erase(self) -> None:
        if self._live and self._drawn:
            self._out.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _write(self, lines: list[str]) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()

    def _totals(self) -> list[str]:
        course = self._course
        done = sum(task in course.ended for task in course.due)
        working = sum(len(course.running(member.name)) for member in self._fleet)
        delays = course.delays()
        waiting = max(0, len(course.due) - done - working)
        now = time.monotonic() - self._began
        counts = f"scheduled {waiting:5}  working {working:3}  done {done:5}"
        p50, p99 = span(quantile(delays, 0.5)), span(quantile(delays, 0.99))
        return [
            f"{now:5.1f} s  {counts}  refused {course.refused.total()}",
            f"due to start p50 {p50} p99 {p99}",
        ]

    def _members(self) -> list[str]:
        return [
            f"{member.name} {member.status:<6} "
            f"runs {len(self._course.running(member.name)):2} "
            f"done {self._course.done_by[member.name]:4}"
            for member in self._fleet
        ]
