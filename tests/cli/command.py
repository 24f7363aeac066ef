"""Run the command line as people do: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "rota.cli.main"]


def environment(temporary: Path | None = None) -> dict[str, str]:
    """This process's, without settings of ours, with a temporary directory of the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROTA_")}
    return kept if temporary is None else {**kept, "TMPDIR": str(temporary)}


def rota(
    *arguments: str, temporary: Path | None = None, timeout: float = 55
) -> subprocess.CompletedProcess[str]:
    """The finished process; output is a pipe."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(temporary),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(*arguments: str, temporary: Path, **options: Any) -> subprocess.Popen[str]:
    """The running process, its output a pipe."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(temporary),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr that says what was wrong and what to do."""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert ";" in lines[0]
    return lines[0]
