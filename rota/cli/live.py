"""A terminal that shows one view over and over, and is given back as it was."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from rota.cli.table import cut

#: The other screen, without a cursor; and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _LINE_END, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
#: Arrow keys and their like, which may have a q or a Q in them.
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;]*[@-~]|O.)")
_QUIT = frozenset(b"qQ\x04")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def is_live(out: TextIO) -> bool:
    """Whether a view can be redrawn there."""
    return out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Live:
    """Redraws a view in place, until q, Ctrl-C, a signal, or the terminal's end ends the block.

    Entered and left on a running loop. Ctrl-Z gives the terminal back until the process goes on.
    """

    def __init__(self) -> None:
        self._out = sys.stdout
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._modes: list[Any] | None = None
        self._resized = asyncio.Event()
        self._task = asyncio.current_task()
        self._ended = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._resized.set)
        loop.add_signal_handler(signal.SIGTSTP, self._step_aside)
        for number in _ENDING:
            loop.add_signal_handler(number, self._end)
        if self._keys is not None:
            loop.add_reader(self._keys, self._read)
        self._take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGWINCH, signal.SIGTSTP, *_ENDING):
            loop.remove_signal_handler(number)
        if self._keys is not None:
            loop.remove_reader(self._keys)
        self._give_back()
        if self._ended and self._task is not None:
            self._task.uncancel()
        return self._ended and isinstance(error, asyncio.CancelledError)

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines, as they are now."""
        return os.get_terminal_size(self._out.fileno())

    def show(self, lines: Sequence[str]) -> None:
        """Draw these, cut to the terminal, in the place of what stood there."""
        columns, rows = self.size
        drawn = [f"{cut(line, columns)}{_LINE_END}" for line in lines[:rows]]
        self._write(_HOME + "\n".join(drawn) + _BELOW)

    async def resized(self, within: float) -> bool:
        """Wait so many seconds; true as soon as the size has changed."""
        try:
            async with asyncio.timeout(within):
                await self._resized.wait()
        except TimeoutError:
            return False
        self._resized.clear()
        return True

    def _read(self) -> None:
        try:
            keys = os.read(self._keys or 0, 1024)
        except OSError:  # the terminal is gone
            keys = b""
        if not keys or _QUIT.intersection(_SEQUENCE.sub(b"", keys)):
            self._end()

    def _end(self) -> None:
        if not self._ended and self._task is not None:
            self._ended = True
            self._task.cancel()

    def _step_aside(self) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._resized.set()

    def _take(self) -> None:
        if self._keys is not None:
            self._modes = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        self._write(_ENTER)

    def _give_back(self) -> None:
        self._write(_LEAVE)
        if self._keys is not None and self._modes is not None:
            try:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)
            except termios.error:  # the terminal is gone
                self._modes = None

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:  # the terminal is gone
            self._end()


def fitted(parts: Sequence[str], rows: int) -> list[str]:
    """The parts one below the other in so many lines; the longest give way first.

    >>> fitted(["queue\\na\\nb\\nc", "node\\nn"], 6)
    ['queue', 'a', '… 2 more', '', 'node', 'n']
    """
    blocks = [part.splitlines() for part in parts]
    sizes = [len(block) for block in blocks]
    while sum(sizes) + len(sizes) - 1 > rows:
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        if sizes[longest] <= 3:
            break
        sizes[longest] -= 1
    lines: list[str] = []
    for block, size in zip(blocks, sizes, strict=True):
        if size < len(block):
            block[size - 1 :] = [f"… {len(block) - size + 1} more"]
        lines += ["", *block] if lines else block
    return lines[: max(0, rows)]
