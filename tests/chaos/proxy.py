"""A TCP proxy of one member's line to PostgreSQL that delays, swallows, and cuts at commits."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Self

from tests.chaos.wire import Watch

#: After so long a server's own keepalive has found out that a line is dead.
SERVER_KEEPALIVE = 20.0
#: How long a cut waits for the server's answer to the commit.
ANSWER = 2.0
_PIECE = 65_536


class Line:
    """One connection through the proxy, both ways."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.from_client, self.to_client = client
        self.from_server, self.to_server = server
        self.watch = Watch()
        self.forgotten = False  #: nothing passes any more, and nobody is told
        self.cutting = False
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        for writer in (self.to_client, self.to_server):
            if writer.transport is not None:
                writer.transport.abort()


class Proxy:
    """Listens on a free port of 127.0.0.1; ``counts`` says what it did to whom.

    ``delay`` is added to each piece, either way.
    """

    def __init__(self, server_port: int, *, host: str = "127.0.0.1") -> None:
        self._server_at = (host, server_port)
        self._server: asyncio.Server | None = None
        self._lines: set[Line] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._forgetting = False
        self._cut: str | None = None
        self.delay = 0.0
        self.counts: Counter[str] = Counter()

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in list(self._lines):
            line.close()
        for serving in list(self._serving):
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut_next_commit(self, *, answered: bool) -> None:
        """Cut the line on which the next commit is sent.

        ``answered`` waits until the server says it is done, and keeps that from the
        client; else the line is cut at once, and nobody knows.
        """
        self._cut = "answered" if answered else "sent"

    def cut_nothing(self) -> None:
        self._cut = None

    def swallow(self, *, forget: bool) -> None:
        """Let nothing pass, and tell nobody: neither end sees the connection end.

        What was open is delivered late, after ``pass_on``, or with ``forget`` never.
        """
        self._open.clear()
        self._forgetting = forget
        for line in self._lines:
            line.forgotten |= forget

    def pass_on(self) -> None:
        """Let things pass again."""
        self._open.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open.is_set():
            self.counts["connections into the black hole"] += 1
            forgotten = self._forgetting
            try:
                await self._open.wait()
            except asyncio.CancelledError:
                writer.transport.abort()
                raise
            if forgotten:
                writer.transport.abort()
                return
        try:
            server = await asyncio.open_connection(*self._server_at)
        except OSError:
            writer.transport.abort()
            return
        line = Line((reader, writer), server)
        self._lines.add(line)
        answers = asyncio.create_task(self._pump_answers(line))
        try:
            await self._pump_requests(line)
            if line.forgotten:
                await asyncio.wait([answers], timeout=SERVER_KEEPALIVE)
        finally:
            self._lines.discard(line)
            line.close()
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    async def _pump_requests(self, line: Line) -> None:
        with contextlib.suppress(OSError):
            while data := await line.from_client.read(_PIECE):
                commits = line.watch.sent(data)
                if not await self._passes(line):
                    continue
                if commits and self._cut is not None:
                    await self._cut_here(line, data)
                    return
                line.to_server.write(data)
                await line.to_server.drain()

    async def _pump_answers(self, line: Line) -> None:
        with contextlib.suppress(OSError):
            while data := await line.from_server.read(_PIECE):
                well = line.watch.answered(data)
                if line.cutting:
                    if well is not None and not line.answered.done():
                        line.answered.set_result(well)
                    continue
                if await self._passes(line):
                    line.to_client.write(data)
                    await line.to_client.drain()
        if not line.forgotten and not line.cutting:
            line.close()

    async def _passes(self, line: Line) -> bool:
        if self.delay:
            await asyncio.sleep(self.delay)
        if not line.forgotten:
            await self._open.wait()
        return not line.forgotten

    async def _cut_here(self, line: Line, data: bytes) -> None:
        how, self._cut = self._cut, None
        line.cutting = True
        line.to_server.write(data)
        await line.to_server.drain()
        self.counts["commits cut"] += 1
        if how == "answered":
            with contextlib.suppress(TimeoutError):
                if await asyncio.wait_for(line.answered, ANSWER):
                    self.counts["commits done, answer lost"] += 1
