"""Run plain functions in worker processes: one for each run at once, used again and again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from rota.core.clock import Cancellable, Clock
from rota.core.codec import SIZE_LIMIT, dump
from rota.core.failure import RaisedElsewhere
from rota.core.outcome import RAISABLE, Done, Outcome
from rota.core.program import GRACE, Program, how_it_ended, through_cancels
from rota.errors import ProcessDied, SchedulerNotRunning
from rota.scheduler.process_child import LENGTH, Setup

#: What a request takes beside its params.
_ENVELOPE = 10_000
#: An idle process ends after so many seconds.
IDLE = 30.0
#: Closing waits so long for processes that were killed.
PATIENCE = 5.0

# The import path is set before anything but the standard library is imported.
_BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path[:] = setup['path']; "
    "from rota.scheduler.process_child import Setup, main; main(Setup(**setup))"
)
_OUTCOMES: dict[str, type[Outcome]] = {cls.__name__: cls for cls in (Done, *RAISABLE)}


class ProcessRunner:
    """As many spawned processes as there are runs at once; nothing is pickled.

    A process that died, or that a cancelled run had to kill, is replaced when the next
    run needs one. Used on the event loop's thread only.
    """

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, clock: Clock, idle: float = IDLE
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._patience = idle
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The processes that are on, idle ones too."""
        return [worker.program.pid for worker in self._all]

    async def run(
        self,
        location: str,
        params: dict[str, Any],
        *,
        work: str = "",
        size_limit: int = SIZE_LIMIT,
        keep_result: bool = True,
    ) -> Outcome:
        """Call the function at ``module:qualname`` with stored params.

        A result over ``size_limit`` fails the run, unless it is not to be kept anyway.
        Cancelled, it ends the process, with SIGTERM first; the cancel is answered when
        the process is gone, unless it still came to an outcome. Raises
        ``RaisedElsewhere`` for an exception of the function, and ``ProcessDied``.
        """
        request = dump(
            {
                "location": location,
                "params": params,
                "work": work or location,
                "limit": size_limit,
                "keep": keep_result,
            },
            "params",
            limit=size_limit + _ENVELOPE,
        )
        worker = await self._take()
        asking = self._loop.create_task(worker.ask(request.encode()))
        try:
            await asyncio.wait([asking])
        except asyncio.CancelledError:
            asking.add_done_callback(lambda _: worker.hang_up())
            await self._end(worker)
            await through_cancels(asking)
            if asking.cancelled() or asking.exception() is not None:
                raise
            return _outcome(asking.result())
        if asking.cancelled():  # the loop ends all its tasks
            worker.program.send(signal.SIGKILL)
            raise asyncio.CancelledError
        answer = asking.result()
        self._rest(worker)
        return _outcome(answer)

    async def close(self) -> None:
        """End all processes: idle ones by hanging up, busy ones by SIGKILL."""
        self._closed = True
        for worker in self._all:
            if worker in self._idle:
                self._dismiss(worker)
            else:
                worker.program.send(signal.SIGKILL)
        self._idle.clear()
        left = list(self._all)
        gone = self._loop.create_task(_all_gone(left))
        alarm = self._clock.call_at(self._loop, self._clock.monotonic() + PATIENCE, gone.cancel)
        try:
            await asyncio.wait([gone])
        finally:
            alarm.cancel()
            gone.cancel()

    async def _take(self) -> _Worker:
        """An idle process, or a new one."""
        if self._closed:
            raise SchedulerNotRunning("the engine is not running; call start() first")
        while self._idle:
            worker = self._idle.pop()
            worker.disarm()
            if not worker.program.gone.done():
                return worker
        worker = await _start(self._clock)
        self._all.add(worker)
        worker.program.gone.add_done_callback(lambda _: self._buried(worker))
        return worker

    def _rest(self, worker: _Worker) -> None:
        if self._closed or worker.program.gone.done():
            self._dismiss(worker)
            return
        self._idle.append(worker)
        worker.arm(self._patience, lambda: self._expire(worker))

    def _expire(self, worker: _Worker) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        """Hang up, which ends it; kill it if it stays."""
        worker.hang_up()
        worker.arm(GRACE, lambda: worker.program.send(signal.SIGKILL))

    async def _end(self, worker: _Worker) -> None:
        """End a busy process; comes back when it is gone."""
        worker.program.send(signal.SIGTERM)
        worker.arm(GRACE, lambda: worker.program.send(signal.SIGKILL))
        await worker.program.ended()

    def _buried(self, worker: _Worker) -> None:
        self._all.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
            worker.hang_up()
        worker.disarm()


class _Worker:
    """One process, the socket to it, and one alarm."""

    def __init__(
        self,
        program: Program,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        clock: Clock,
    ) -> None:
        self.program = program
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._alarm: Cancellable | None = None

    async def ask(self, request: bytes) -> bytes:
        """Send a request and wait for the answer; ``ProcessDied`` if none comes."""
        gone = self.program.gone
        talk = asyncio.ensure_future(self._exchange(request))
        try:
            either: set[asyncio.Future[Any]] = {talk, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not talk.done():
                # What it said last is in the socket, which a child of its own may keep open.
                await self._within(talk)
            if talk.done() and talk.exception() is None:
                return talk.result()
            await self._within(gone)
            self.program.send(signal.SIGKILL)
            status = await self.program.ended()
            raise ProcessDied(status, how_it_ended(status))
        finally:
            if not talk.cancel() and not talk.cancelled():
                talk.exception()
            if gone.done():
                self.hang_up()

    async def _exchange(self, request: bytes) -> bytes:
        self._writer.write(LENGTH.pack(len(request)) + request)
        await self._writer.drain()
        size = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
        return await self._reader.readexactly(size)

    async def _within(self, future: asyncio.Future[Any]) -> None:
        """Wait for it for one grace."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        alarm = self._clock.call_at(loop, self._clock.monotonic() + GRACE, lambda: _open(over))
        future.add_done_callback(lambda _: _open(over))
        try:
            await asyncio.wait([over])
        finally:
            alarm.cancel()

    def arm(self, after: float, callback: Callable[[], object]) -> None:
        self.disarm()
        loop = asyncio.get_running_loop()
        self._alarm = self._clock.call_at(loop, self._clock.monotonic() + after, callback)

    def disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def hang_up(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        """Wait until the process is gone and the socket closed."""
        await asyncio.wait([self.program.gone])
        self.hang_up()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _open(gate: asyncio.Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)


async def _start(clock: Clock) -> _Worker:
    if _BOOT in sys.orig_argv:
        raise RuntimeError(
            "a worker process cannot start worker processes; put what starts the scheduler "
            "under if __name__ == '__main__'"
        )
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        try:
            # Last, so that a cancel does not find a process nobody waits for.
            program = await Program.start(
                [sys.executable, "-P", "-c", _BOOT, json.dumps(_setup(theirs.fileno())._asdict())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                shield_interrupt=True,
            )
        except BaseException:
            writer.close()
            raise
    return _Worker(program, reader, writer, clock)


def _setup(link: int) -> Setup:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    name = getattr(spec, "name", None)
    path = getattr(main, "__file__", None)
    return Setup(
        socket=link,
        parent=os.getpid(),
        path=[entry for entry in sys.path if isinstance(entry, str)],
        argv=sys.argv,
        main_name=name,
        main_path=None if path is None else os.path.abspath(path),
    )


async def _all_gone(workers: list[_Worker]) -> None:
    for worker in workers:
        await worker.closed()


def _outcome(answer: bytes) -> Outcome:
    told = json.loads(answer)
    if "raised" in told:
        raise RaisedElsewhere(told["raised"])
    return _OUTCOMES[told["outcome"]](**told["fields"])
