"""``rota top`` on a terminal: fitted to it, redrawn when that changes, and given back as it was."""

from __future__ import annotations

import signal

import pytest

from rota import Scheduler
from rota.cli.live import fitted
from tests.cli.places import Place, ended
from tests.cli.terminal import *  # noqa: F403 - fixtures are found by name
from tests.cli.terminal import Terminal

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


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
