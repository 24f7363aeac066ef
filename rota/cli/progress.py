"""Progress of long work on stderr: a count, or a bar where the end is known; nothing in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

_REDRAW = 0.2
_BAR = 30


class Progress:
    """One line that is drawn over and over, and gone at the end."""

    def __init__(self, what: str, *, total: int | None = None, out: TextIO | None = None) -> None:
        self._what = what
        self._total = total
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._drawn = 0.0
        self.count: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live and self._drawn:
            self._out.write("\r\x1b[K")
            self._out.flush()

    def add(self, count: int) -> None:
        """So many more."""
        self.count += count
        now = time.monotonic()
        if self._live and now - self._drawn >= _REDRAW:
            self._drawn = now
            self._out.write(f"\r\x1b[K{self.line()}")
            self._out.flush()

    def line(self) -> str:
        """What stands there now."""
        if not self._total:
            return f"{self._what} {self.count:,} …"
        part = min(1.0, self.count / self._total)
        bar = "#" * round(part * _BAR)
        return f"{self._what} [{bar:<{_BAR}}] {self.count:,} of {self._total:,}"
