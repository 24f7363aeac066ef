"""The demonstration's real input: Python's standard library, and the works that read it."""

from __future__ import annotations

import hashlib
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rota.registry import WorkRegistry

QUEUE = "rota-demo"
DIGEST = "demo.sha256"
TICK = "demo.tick"
#: A file is read in at most so many slices.
_SLICES = 8
_SLICE = 16_384


class Source(NamedTuple):
    """One file to digest; ``name`` is its path within the standard library."""

    name: str
    slices: int


def root() -> Path:
    """Where this Python keeps its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def sources(limit: int | None = None) -> list[Source]:
    """The library's readable ``.py`` files; with a limit, so many of them, evenly chosen."""
    top = root()
    found = [
        Source(str(path.relative_to(top)), min(_SLICES, 2 + path.stat().st_size // _SLICE))
        for path in sorted(top.rglob("*.py"))
        if "site-packages" not in path.parts and _readable(path)
    ]
    if limit is None or limit >= len(found):
        return found
    return [found[at * len(found) // limit] for at in range(limit)]


def digests(names: Iterable[str]) -> dict[str, str]:
    """The digests by a plain pass, which the tasks' results are compared with."""
    top = root()
    return {name: hashlib.sha256((top / name).read_bytes()).hexdigest() for name in names}


def demo_works() -> WorkRegistry:
    """The works of the demonstration, as parent and nodes register them."""
    works = WorkRegistry()
    works.register(DIGEST, queue=QUEUE)(digest_slowly)
    works.register(TICK, queue=QUEUE)(tick)
    return works


def digest_slowly(name: str, slices: int, wait: float) -> str:
    """Digest one file slice by slice, pausing before each.

    It does not ask whether it was told to stop: a run that was frozen ends its work
    after the thaw and offers its result, too late.
    """
    path = root() / name
    size = max(1, -(-path.stat().st_size // slices))
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for _ in range(slices):
            time.sleep(wait)
            digest.update(file.read(size))
        digest.update(file.read())
    return digest.hexdigest()


def tick() -> None:
    """The recurring task's work: being run is all there is to it."""


def _readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError:
        return False
    return True
