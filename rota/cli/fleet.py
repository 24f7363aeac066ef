"""The node processes of the demonstration: started, frozen, killed, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rota.cli.course import Course
from rota.cli.exits import DemoFailed
from rota.cli.node import URL_VARIABLE
from rota.cli.nodelog import Tail

#: Seconds a node has to sign off before it is killed.
FAREWELL = 8.0


class Member:
    """One node's process.

    ``status`` is ``starting``, ``up``, ``frozen``, ``back``, ``killed`` or ``left``.
    """

    def __init__(self, name: str, *, url: str, schema: str | None, directory: Path) -> None:
        self.name = name
        self.status: str = "starting"
        self.tail: Tail = Tail(directory / f"{name}.jsonl")
        self._words = directory / f"{name}.log"
        arguments = ["--name", name, "--log", str(directory / f"{name}.jsonl")]
        if schema is not None:
            arguments += ["--schema", schema]
        with self._words.open("wb") as words:
            # A process group of its own: Ctrl-C reaches the parent alone, which ends them.
            # Not a session: within the parent's, the kernel wakes and ends a frozen node
            # whose parent was killed.
            self.process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "rota.cli.node", *arguments],
                stdin=subprocess.PIPE,
                stdout=words,
                stderr=words,
                process_group=0,
                env={**os.environ, URL_VARIABLE: url},
            )

    @property
    def serves(self) -> bool:
        """Whether it runs and is not frozen."""
        return self.status in {"up", "back"}

    async def freeze(self) -> None:
        """SIGSTOP, and wait until the process stands."""
        self.process.send_signal(signal.SIGSTOP)
        # WNOWAIT: the exit status stays for Popen to find.
        flags = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, flags)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.status = "killed"
        await asyncio.to_thread(self.process.wait)

    def last_words(self) -> str:
        """The last line the process wrote for people."""
        lines = self._words.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Fleet:
    """All nodes; ``look`` takes their news into the course."""

    def __init__(
        self, names: list[str], *, course: Course, url: str, schema: str | None, directory: Path
    ) -> None:
        self._course = course
        self.members: list[Member] = []
        try:
            for name in names:
                member = Member(name, url=url, schema=schema, directory=directory)
                self.members.append(member)
        except BaseException:
            self.destroy()
            raise

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def look(self) -> None:
        """Read the logs; raises ``DemoFailed`` if a node ended that nobody killed."""
        for member in self.members:
            self._course.follow(member.name, member.tail.read())
            if member.status == "starting" and member.name in self._course.ready:
                member.status = "up"
            if member.status not in {"killed", "left"} and member.process.poll() is not None:
                raise DemoFailed(
                    f"{member.name} ended with status {member.process.returncode} "
                    f"({member.last_words()}); run it again with --keep and read its log"
                )

    async def all_up(self, patience: float) -> None:
        """Wait until every node has joined."""
        until = asyncio.get_running_loop().time() + patience
        while any(member.status == "starting" for member in self.members):
            self.look()
            if asyncio.get_running_loop().time() > until:
                raise DemoFailed(
                    f"the nodes did not start within {patience:g} s; is the machine overloaded?"
                )
            await asyncio.sleep(0.02)

    async def dismiss(self) -> None:
        """Have the nodes sign off, and take in their last news."""
        leaving = [member for member in self.members if member.status != "killed"]
        for member in leaving:
            member.status = "left"
            if member.process.stdin is not None:
                member.process.stdin.close()
        for member in leaving:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(member.process.wait, FAREWELL)
        self.look()

    def destroy(self) -> None:
        """Kill what still runs, frozen or not; safe to call at any time."""
        for member in self.members:
            if member.process.poll() is None:
                member.process.kill()
        for member in self.members:
            member.process.wait()
            if member.process.stdin is not None:
                with contextlib.suppress(OSError):
                    member.process.stdin.close()
