"""What the tests of the runners share: gates into another process, and what is left of one."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

#: Nothing here takes so long unless it hangs.
PATIENCE = 30.0


class Gate:
    """Two named pipes: one says that a run is inside, at the other it waits for the word."""

    def __init__(self, directory: Path, name: str) -> None:
        self.inside = directory / f"{name}-inside"
        self.go = directory / f"{name}-go"
        os.mkfifo(self.inside)
        os.mkfifo(self.go)

    @property
    def params(self) -> dict[str, str]:
        return {"inside": str(self.inside), "go": str(self.go)}

    async def entered(self) -> int:
        """Wait until the run is inside; its process id."""
        return int(await asyncio.to_thread(self.inside.read_text))

    async def open(self) -> None:
        """Let it go on."""
        await asyncio.to_thread(self.go.write_text, "go")


def end_of(pid: int, timeout: float = PATIENCE) -> bool:
    """Block until a process that need not be a child of ours has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def children() -> dict[int, str]:
    """The processes whose parent is this one, zombies too, with their state."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == os.getpid():
                found[int(entry.name)] = state
    return found


def files() -> set[str]:
    """The open file descriptors of this process, and what they are."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue
    return found
