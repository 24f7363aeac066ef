"""The member processes of a chaos run: started, hurt, started anew, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.works import POISONED

ROOT = Path(__file__).resolve().parents[2]
#: What has not come by then does not come.
PATIENCE = 40.0


class Process:
    """One start of a member; ``expected`` says that its end was wanted."""

    def __init__(self, process: asyncio.subprocess.Process, told: Counter[str]) -> None:
        self._process = process
        self._told = told
        self._seen: set[str] = set()
        self._news = asyncio.Condition()
        self.expected = False
        self.wrong: list[str] = []
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        return self._process.returncode

    async def heard(self, kind: str, patience: float = PATIENCE) -> None:
        """Wait until it says this; raises ``TimeoutError``, or ``EOFError`` if it ends first."""
        async with asyncio.timeout(patience), self._news:
            await self._news.wait_for(lambda: kind in self._seen or self._reading.done())
        if kind not in self._seen:
            raise EOFError(f"the process ended before it said {kind!r}")

    def tell(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps({"do": do, **arguments}) + "\n").encode())

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.expected = True
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def leave(self, patience: float = PATIENCE) -> int:
        """Let it sign off; its exit status."""
        self.expected = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(patience):
            status = await self._process.wait()
            await self._reading
        return status

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for text in self._process.stdout:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # half a line, of a process that was killed
            await self._hear(line)
        async with self._news:
            self._news.notify_all()

    async def _hear(self, line: dict[str, Any]) -> None:
        kind = line["is"]
        self._told[kind] += line.get("tasks", 1)
        if line.get("right") is False:
            self.wrong.append(f"{kind}: {line}")
        async with self._news:
            self._seen.add(kind)
            self._news.notify_all()


class Member:
    """A node or a client by name; each start is a new process with files of its own."""

    def __init__(self, name: str, config: dict[str, Any], directory: Path) -> None:
        self.name = name
        self.client: bool = config["client"]
        self.hurt = False  #: a fault is at work on it
        self.told: Counter[str] = Counter()
        self.starts = 0
        self.processes: list[Process] = []
        self._config = config
        self._directory = directory

    @property
    def process(self) -> Process:
        return self.processes[-1]

    @property
    def log(self) -> Path:
        return self._directory / f"{self.name}.log"

    async def start(self) -> None:
        """A new process; it is not waited for."""
        self.starts += 1
        name = f"{self.name}-{self.starts}"
        config = {**self._config, "name": name, "directory": str(self._directory)}
        config["seed"] = f"{config['seed']}/{name}"
        path = self._directory / f"{name}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.chaos.member",
                str(path),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                process_group=0,  # Ctrl-C reaches the run alone, which ends them
            )
        self.processes.append(Process(process, self.told))


class Fleet:
    """All members; ``ended_by_themselves`` says who did, with its last words."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.ended_by_themselves: list[str] = []
        self.poisoned = 0
        self._reviving = asyncio.Lock()

    @property
    def nodes(self) -> list[Member]:
        return [member for member in self.members if not member.client]

    @property
    def clients(self) -> list[Member]:
        return [member for member in self.members if member.client]

    async def start(self) -> None:
        for member in self.members:
            await member.start()
        for member in self.members:
            await member.process.heard("up")

    async def revive(self) -> None:
        """Start anew whoever has ended, whether a fault did it or not.

        One at a time: two that saw the same end would start two processes, of which one would
        never be told to be silent.
        """
        async with self._reviving:
            await self._revive()

    async def _revive(self) -> None:
        for member in self.members:
            if not member.hurt and member.process.status is not None:
                if member.process.status == POISONED:
                    self.poisoned += 1
                elif not member.process.expected:
                    last = member.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                    self.ended_by_themselves.append(
                        f"{member.name} with status {member.process.status}: {last}"
                    )
                await member.start()

    async def quieten(self, patience: float = PATIENCE) -> None:
        """Have the clients schedule nothing new, and wait until all they began is stored."""
        for client in self.clients:
            client.process.tell("be_silent")
        for client in self.clients:
            await client.process.heard("silent", patience)

    async def dismiss(self) -> list[str]:
        """Let all sign off; who did not do so well."""
        rude = []
        for member in self.members:
            try:
                status = await member.process.leave()
            except TimeoutError:
                rude.append(f"{member.name} did not sign off")
            else:
                if status != 0:
                    rude.append(f"{member.name} signed off with status {status}")
        return rude

    def wrongs(self) -> list[str]:
        return [
            f"{member.name}: {wrong}"
            for member in self.members
            for process in member.processes
            for wrong in process.wrong
        ]

    def told(self) -> Counter[str]:
        """How often what was said, by all."""
        total: Counter[str] = Counter()
        for member in self.members:
            total.update(member.told)
        return total

    async def destroy(self) -> None:
        """Kill what still runs, stopped or not; safe to call at any time."""
        for member in self.members:
            for process in member.processes:
                await process.kill()
