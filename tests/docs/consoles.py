"""The console blocks of a page, and a shell that executes their lines where the page is read."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.command import environment

ROOT = Path(__file__).parents[2]
#: What has not come by then does not come.
PATIENCE = 30.0
_SERVER = re.compile(r"postgresql://[^\s\"']+")


def blocks(page: Path, *languages: str) -> list[str]:
    """The blocks of a page in these languages."""
    fence = rf"^```(?:{'|'.join(languages)})\n(.*?)^```$"
    return re.findall(fence, page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Each line of a page's console blocks, without the remark behind it."""
    text = "".join(blocks(page, "console", "sh", "bash")).replace("\\\n", " ")
    return [line.partition(" #")[0].rstrip() for line in text.splitlines() if line.strip()]


class Started:
    """A command that goes on until it is told to end; ``said`` is what it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read what it writes until this is found in it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.said)) is None:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            assert ready, f"no {pattern!r} in {self.said}"
            written = os.read(self.process.stdout.fileno(), 65_536)
            assert written, f"ended without {pattern!r}: {self.said}"
            self.said += written.decode()
        return found

    def address(self) -> str:
        """Where it says that it serves."""
        return self.until(r"(http://127\.0\.0\.1:\d+)[ /]")[1]

    def end(self) -> int:
        """Send SIGTERM to it alone; its exit status, once its children have ended, too."""
        self.process.send_signal(signal.SIGTERM)
        rest, _ = self.process.communicate(timeout=PATIENCE)
        self.said += rest.decode()
        return self.process.returncode


class Console:
    """Executes a page's lines in a directory; ``server`` stands for any PostgreSQL they name."""

    def __init__(self, directory: Path, server: str = "") -> None:
        self.directory = directory
        self.environment = environment() | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            # What servers listen on unless told otherwise may be taken.
            "UVICORN_PORT": "0",
            "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:0 --no-control-socket",
            # Of pip only whether it would be content with what is there.
            "PIP_DRY_RUN": "1",
            "PIP_NO_INDEX": "1",
        }
        for name in ("DATABASE_URL", "PIP_FIND_LINKS"):
            self.environment.pop(name, None)
        self._server = server
        self._exports = ""
        self._begun: list[subprocess.Popen[bytes]] = []

    def run(self, line: str, *, timeout: float = PATIENCE) -> str:
        """What it prints; it must succeed. An ``export`` holds for the lines that follow."""
        with self._begin(line) as process:
            try:
                told = process.communicate(timeout=timeout)[0].decode()
            finally:
                _kill(process)
        assert process.returncode == 0, f"{line}\n{told}"
        if line.startswith("export "):
            self._exports += f"{line}\n"
        return told

    def start(self, line: str) -> Started:
        """Begin what does not end by itself, with ``&`` or in the foreground."""
        process = self._begin(f"exec env {line.removesuffix('&')}")
        self._begun.append(process)
        return Started(process)

    def end(self) -> None:
        """End what goes on still."""
        for process in self._begun:
            _kill(process)
            process.communicate()

    def _begin(self, line: str) -> subprocess.Popen[bytes]:
        # A function: the URL's own backslashes, if any, are to be left alone.
        script = _SERVER.sub(lambda _: shlex.quote(self._server), self._exports + line)
        return subprocess.Popen(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and its children, if any is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
