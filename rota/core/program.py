"""Start another program, signal it and await its end, without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

#: After a request to end, a program gets so many seconds before it is killed.
GRACE = 1.0


class Program:
    """A running program. ``gone`` is done once it has ended and was reaped.

    Its value is the exit status, or minus the number of the signal that killed it. Wait
    for it with ``asyncio.wait`` or :meth:`ended`; awaiting it by itself would cancel it
    together with the waiter.
    """

    __slots__ = ("_loop", "_popen", "gone")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._popen: asyncio.Future[subprocess.Popen[bytes]] = loop.create_future()
        self.gone: asyncio.Future[int] = loop.create_future()

    @classmethod
    async def start(
        cls, command: Sequence[str], *, shield_interrupt: bool = False, **options: Any
    ) -> Self:
        """Start it in a thread of its own; ``options`` are those of ``Popen``.

        ``shield_interrupt`` starts it with SIGINT blocked. Raises the ``OSError`` of a
        program that cannot be started. A start that is cancelled leaves nothing behind.
        """
        program = cls(asyncio.get_running_loop())
        threading.Thread(
            target=program._live,
            args=(command, shield_interrupt, options),
            name="rota-program",
            daemon=True,
        ).start()
        try:
            await asyncio.wait([program._popen])
        except asyncio.CancelledError:
            await through_cancels(program._popen)
            if program._popen.exception() is None:
                program.send(signal.SIGKILL)
                await program.ended()
            raise
        program._popen.result()
        return program

    @property
    def pid(self) -> int:
        """Its process id; somebody else's, perhaps, once it is gone."""
        return self._popen.result().pid

    def send(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        if not self.gone.done():
            self._popen.result().send_signal(number)

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
            self._tell(self._popen.set_exception, error)
            return
        self._tell(self._popen.set_result, popen)
        status = popen.wait()
        self._tell(self.gone.set_result, status)

    def _tell(self, settle: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody to tell
            self._loop.call_soon_threadsafe(settle, value)


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
