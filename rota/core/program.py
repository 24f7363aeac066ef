"""Start another program, signal it and await its end, without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, Self

from rota.core.answer import Answer

#: After a request to end, a program gets so many seconds before it is killed.
GRACE = 1.0


class Program:
    """A running program. ``gone`` is done once it has ended and was reaped.

    Its value is the exit status, or minus the number of the signal that killed it. Wait
    for it with ``asyncio.wait`` or :meth:`ended`; awaiting it by itself would cancel it
    together with the waiter.
    """

    __slots__ = ("_ended", "_started", "gone")

    def __init__(self) -> None:
        self._started: Answer[subprocess.Popen[bytes]] = Answer()
        self._ended: Answer[int] = Answer()
        self.gone: asyncio.Future[int] = self._ended.future

    @classmethod
    async def start(
        cls, command: Sequence[str], *, shield_interrupt: bool = False, **options: Any
    ) -> Self:
        """Start it in a thread of its own; ``options`` are those of ``Popen``.

        ``shield_interrupt`` starts it with SIGINT blocked. Raises the ``OSError`` of a
        program that cannot be started. A start that is cancelled leaves nothing behind.
        """
        program = cls()
        threading.Thread(
            target=program._live,
            args=(command, shield_interrupt, options),
            name="rota-program",
            daemon=True,
        ).start()
        started = program._started.future
        try:
            await asyncio.wait([started])
        except asyncio.CancelledError:
            await through_cancels(started)
            if started.exception() is None:
                program.send(signal.SIGKILL)
                await program.ended()
            raise
        started.result()
        return program

    @property
    def pid(self) -> int:
        """Its process id; somebody else's, perhaps, once it is gone."""
        return self._started.future.result().pid

    def send(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        if not self.gone.done():
            self._started.future.result().send_signal(number)

    def send_group(self, number: int) -> None:
        """Send a signal to its process group, of which it must have been started as the head.

        Members may be left when it is gone itself.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def ended(self) -> int:
        """Wait for its end, whoever cancels the waiter."""
        await through_cancels(self.gone)
        return self.gone.result()

    def _live(self, command: Sequence[str], shield: bool, options: dict[str, Any]) -> None:
        """In the thread: start, wait, reap."""
        try:
            if shield:
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            popen = subprocess.Popen(command, **options)  # noqa: S603 - never through a shell
        except Exception as error:  # noqa: BLE001 - raised where it was asked for
            self._started.settle(None, error)
            return
        self._started.settle(popen, None)
        self._ended.settle(popen.wait(), None)


async def through_cancels(future: asyncio.Future[Any]) -> None:
    """Wait until it is done, whoever cancels the waiter."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])


def how_it_ended(status: int) -> str:
    """An exit status in words: ``exit status 3`` or ``killed by SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
