"""Perform ``rota demo`` in a terminal and keep what it showed as docs/_static/demo.svg."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs" / "_static" / "demo.svg"
COLUMNS = 84
_REDRAW = re.compile(r"\x1b\[(\d+)F\x1b\[J")
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_COLOURS = [
    (r"^kept  ", "bold green"),
    (r"^BROKEN.*", "bold red"),
    (r"\b(killed|frozen)\b", "bold red"),
    (r"\b(up|back|thawed)\b(?= +runs)", "green"),
    (r"^\$ .*", "bold"),
    (r"must be 0|at most 3 s|at least 1.*", "dim"),
]


def perform() -> str:
    """What the command wrote to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    command = Path(sys.executable).with_name("rota")
    with subprocess.Popen(
        [command, "demo"], stdin=theirs, stdout=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        written = bytearray()
        while chunk := _read(ours):
            written += chunk
    os.close(ours)
    if process.returncode:
        raise SystemExit(f"rota demo ended with {process.returncode}; nothing is recorded")
    return written.decode()


def screen(written: str) -> list[str]:
    """The lines that stand at the end: each redraw goes back over the block before."""
    lines: list[str] = []
    rest = written.replace("\r\n", "\n")
    while (found := _REDRAW.search(rest)) is not None:
        lines += rest[: found.start()].split("\n")[:-1]
        del lines[len(lines) - int(found.group(1)) :]
        rest = rest[found.end() :]
    return lines + rest.rstrip("\n").split("\n")


def draw(lines: list[str]) -> str:
    """The picture, in a terminal's frame."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in ["$ rota demo", *lines]:
        text = Text(line)
        for pattern, style in _COLOURS:
            text.highlight_regex(pattern, style)
        console.print(text)
    # A picture should not fetch fonts from somebody's server.
    return _FONT_FACE.sub("", console.export_svg(title="rota demo"))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # a terminal that was closed at the other end
        return b""


if __name__ == "__main__":
    lines = screen(perform())
    PICTURE.write_text(draw(lines))
    sys.stdout.write("\n".join(lines) + "\n")
