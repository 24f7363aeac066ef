"""What the worker processes of these tests are asked to run."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from rota import Again, Cancel, Fail, Ignore, Release, Retry, WorkRegistry

works = WorkRegistry()
process = works.register


@process("add", runner="process")
def add(a: int, b: int = 10) -> int:
    return a + b


@process("later", runner="process")
def later(at: datetime, by: timedelta) -> datetime:
    return at + by


@process("who", runner="process")
def who() -> int:
    return os.getpid()


def undecorated(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


@process("boom", runner="process")
def boom(text: str) -> None:
    raise ValueError(text)


@process("leave", runner="process")
def leave(status: int) -> None:
    raise SystemExit(status)


@process("quit", runner="process")
def quit_at_once(status: int) -> None:
    os._exit(status)


@process("kill", runner="process")
def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    threading.Event().wait()


@process("segfault", runner="process")
def segfault() -> None:
    ctypes.string_at(0)


@process("outcome", runner="process")
def outcome(name: str) -> Any:
    match name:
        case "retry":
            raise Retry(after=timedelta(seconds=90), reason="busy")
        case "fail":
            raise Fail("for good")
        case "cancel":
            return Cancel("not wanted")
        case "again":
            raise Again(after=5, params={"name": "again"})
        case "release":
            raise Release(after=7)
        case "ignore":
            raise Ignore
        case "crooked":
            raise Retry(after=-1)
        case "unstorable":
            raise Again(params={"name": object()})
        case _:
            return name


@process("answer", runner="process")
def answer(kind: str) -> Any:
    match kind:
        case "nan":
            return float("nan")
        case "lock":
            return threading.Lock()
        case "huge":
            return "x" * 20_000_000
        case "large":
            return "é" * 100_000
        case "nul":
            return {"inside": ["\x00"]}
        case _:
            return None


@process("hold", runner="process")
def hold(inside: str, go: str) -> int:
    """Opens one pipe to say that it is inside, and waits at another for the word to go on."""
    with open(inside, "w") as out:
        out.write(f"{os.getpid()}\n")
    with open(go) as wait:
        wait.read()
    return os.getpid()


@process("stubborn", runner="process")
def stubborn(inside: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(inside, "w") as out:
        out.write(f"{os.getpid()}\n")
    threading.Event().wait()


@process("graceful", runner="process")
def graceful(inside: str) -> str:
    """Ends by itself when it is told to."""
    told = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    with open(inside, "w") as out:
        out.write(f"{os.getpid()}\n")
    while not told:
        signal.pause()
    return "came to an end"


@process("hang-up", runner="process")
def hang_up() -> None:
    """Closes every file, also those that are none of its business."""
    os.closerange(3, 1000)
    threading.Event().wait()


@process("speak", runner="process")
def speak(text: str) -> None:
    sys.stdout.write(text)
    sys.stderr.write(text.upper())


@process("interrupts", runner="process")
def interrupts() -> list[str]:
    """How SIGINT and SIGTERM stand here, and whether they are blocked."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    os.kill(os.getpid(), signal.SIGINT)
    return [
        str(signal.getsignal(signal.SIGINT)),
        str(signal.getsignal(signal.SIGTERM)),
        str(sorted(blocked)),
    ]
