"""``rota top`` on a terminal: fitted to it, redrawn when that changes, and given back as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest

from rota import Scheduler
from rota.cli.live import fitted
from tests.cli.command import COMMAND, environment
from tests.cli.places import Place, ended

#: Makes the terminal on its stdin its own, as a shell does for what it runs.
OWNER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_FRAME = re.compile(r"\x1b\[H(.*?)\x1b\[J", re.DOTALL)


class Terminal:
    """A pseudo-terminal, and a command that runs in it."""

    def __init__(self) -> None:
        self._ours, self._theirs = pty.openpty()
        self.written = ""
        self.process: subprocess.Popen[bytes] | None = None

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def modes(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def start(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, *COMMAND, *words],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={**environment(), "TERM": "xterm"},
            start_new_session=True,
        )

    def send(self, keys: str | signal.Signals) -> None:
        assert self.process is not None
        if isinstance(keys, signal.Signals):
            self.process.send_signal(keys)
        else:
            os.write(self._ours, keys.encode())

    def until(self, holds: Callable[[], bool]) -> None:
        """Read what it writes until this holds of it."""
        while not holds():
            ready, _, _ = select.select([self._ours], [], [], 30)
            assert ready, self.written
            self.written += os.read(self._ours, 65_536).decode()

    @property
    def frame(self) -> list[str]:
        """The lines of the last view that is drawn whole."""
        frames = _FRAME.findall(self.written)
        return frames[-1].replace("\x1b[K", "").split("\r\n") if frames else []

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.end()


async def _two(scheduler: Scheduler) -> list[str]:
    return await ended(scheduler, "ok", "boom")


@pytest.mark.parametrize("keys", ["q", "\x03", signal.SIGTERM], ids=["q", "Ctrl-C", "SIGTERM"])
def test_it_fits_the_terminal_and_gives_it_back(
    place: Place, terminal: Terminal, keys: str | signal.Signals
) -> None:
    place.put(_two)
    terminal.resize(100, 16)
    before = terminal.modes
    terminal.start("top", "--interval", "1h", *place.options)

    terminal.until(lambda: len(terminal.frame) == 16)
    wide = terminal.frame
    assert wide[0].split() == [
        *("queue", "scheduled", "working", "parked", "done", "failed", "cancelled", "paused")
    ]
    assert "builtins.ValueError" in "\n".join(wide)
    assert "q ends" in wide[-1]
    assert terminal.modes != before

    # The next look is an hour away: the size alone has it drawn anew; an arrow does nothing.
    terminal.send("\x1b[A\x1bOQ")
    terminal.resize(46, 7)
    terminal.until(lambda: len(terminal.frame) == 7)
    assert max(map(len, terminal.frame)) <= 46
    assert "failed" in terminal.frame[0]
    assert "q ends" in terminal.frame[-1]

    terminal.send(keys)
    terminal.until(lambda: LEAVE in terminal.written)
    assert terminal.process is not None
    assert terminal.process.wait(timeout=30) == 0
    assert terminal.modes == before
    assert terminal.written.startswith(ENTER)


def test_a_database_that_is_missing_is_said_on_the_screen_there_was(terminal: Terminal) -> None:
    terminal.resize(200, 10)
    terminal.start("top", "--url", "sqlite:///nowhere/rota.db")
    terminal.until(lambda: "error: " in terminal.written and terminal.written.endswith("\r\n"))
    assert ENTER not in terminal.written


def test_the_longest_parts_give_way_to_a_low_terminal() -> None:
    parts = ["queue\na\nb\nc\nd", "rates", "node\nn\nm"]
    assert fitted(parts, 20) == [*("queue", "a", "b", "c", "d", "", "rates", "", "node", "n", "m")]
    assert fitted(parts, 9) == [*("queue", "a", "… 3 more", "", "rates", "", "node", "n", "m")]
    assert fitted(parts, 4) == ["queue", "a", "… 3 more", ""]
    assert fitted(parts, -1) == []
