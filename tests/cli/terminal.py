"""A command in a terminal, and what it shows there."""

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

from tests.cli.command import COMMAND, environment

#: Makes the terminal on its stdin its own, as a shell does for what it runs.
OWNER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
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
        # What a script runs with & ignores SIGINT and hands that on; a terminal's shell does not.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", OWNER, *COMMAND, *words],
                stdin=self._theirs,
                stdout=self._theirs,
                stderr=self._theirs,
                env={**environment(), "TERM": "xterm"},
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def send(self, keys: str | signal.Signals) -> None:
        assert self.process is not None
        if isinstance(keys, signal.Signals):
            self.process.send_signal(keys)
        else:
            os.write(self._ours, keys.encode())

    def until(self, holds: Callable[[], bool], *, again: str = "") -> None:
        """Read what it writes until this holds of it.

        ``again`` is pressed after five seconds of silence, as a person would: CPython hears a
        Ctrl-C between a prompt and the read behind it when that read has ended.
        """
        silent = 0
        while not holds():
            ready, _, _ = select.select([self._ours], [], [], 5)
            if not ready:
                silent += 1
                assert silent < 6, self.written
                if again:
                    self.send(again)
                continue
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
