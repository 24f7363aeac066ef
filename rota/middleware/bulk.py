"""Take many requests through the schedule side at once, to one insert at its end."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rota.core.request import ScheduleRequest
from rota.core.task import Inserted
from rota.middleware.chain import Middleware, compose_schedule

log: logging.Logger = logging.getLogger("rota.middleware")

T = TypeVar("T")

#: Writes all requests that came through, all or none.
Store = Callable[[Iterable[Sequence[ScheduleRequest]]], Awaitable[list[Inserted]]]
#: Writes what came through, each in its place, beside the errors that others met on the way.
StoreEach = Callable[[list[ScheduleRequest | Exception]], Awaitable[list[Inserted]]]
#: After so many chains the loop gets a turn.
SLICE = 50
#: A part of one call: so many are seen to before the loop gets a turn, some milliseconds.
TURN = 500


def in_turns(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in slices of ``TURN``."""
    return (items[at : at + TURN] for at in range(0, len(items), TURN))


class _AtTheEnd:
    """What a chain yields when it has come to the storage end with this request."""

    __slots__ = ("request",)

    def __init__(self, request: ScheduleRequest) -> None:
        self.request = request

    def __await__(self) -> Generator[Any, Inserted, Inserted]:
        return (yield self)


async def store_through(
    chain: Sequence[Middleware], parts: Iterable[Sequence[ScheduleRequest]], store: Store
) -> list[Inserted]:
    """Each request through the chain, then one insert, then back up each chain.

    Where no middleware has anything to do, ``store`` gets ``parts`` as they are, to take one
    after the other as it comes to them.

    The chains are stepped as coroutines rather than run as one asyncio task each: with
    twenty thousand requests that is the difference between milliseconds and seconds. One
    rejection refuses them all, before anything is written.
    """
    send = compose_schedule(chain, _wait_at_the_end)
    if send is _wait_at_the_end:
        return await store(parts)
    waiting: list[Coroutine[Any, Any, Inserted]] = []
    came: list[ScheduleRequest] = []
    try:
        for part in parts:
            for request in part:
                coroutine = send(request)
                waiting.append(coroutine)  # type: ignore[arg-type]
                came.append((await _to_the_end(coroutine)).request)  # type: ignore[arg-type]
            await asyncio.sleep(0)
        answers = await store(in_turns(came))
        return [
            await _back(coroutine, answer)
            for coroutine, answer in zip(waiting, answers, strict=True)
        ]
    finally:
        for coroutine in waiting:
            _close(coroutine)


async def store_each(
    chain: Sequence[Middleware], requests: Sequence[ScheduleRequest], store: StoreEach
) -> None:
    """Each request through the chain as far as it comes, one write, then back up each chain.

    Unlike ``store_through`` a rejection (or another error) concerns its own request only:
    ``store`` finds it in that request's place. What a chain raises on its way back is
    logged, since its request is stored by then.
    """
    send = compose_schedule(chain, _wait_at_the_end)
    waiting: list[Coroutine[Any, Any, Inserted]] = []
    came: list[ScheduleRequest | Exception] = []
    try:
        for number, request in enumerate(requests, 1):
            coroutine = send(request)
            waiting.append(coroutine)  # type: ignore[arg-type]
            try:
                came.append((await _to_the_end(coroutine)).request)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - handed on in the request's place
                came.append(error)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        answers = await store(came)
        for number, coroutine in enumerate(waiting):
            if isinstance(came[number], ScheduleRequest):
                await _back_or_log(coroutine, answers[number])
            if number % SLICE == 0:
                await asyncio.sleep(0)
    finally:
        for coroutine in waiting:
            _close(coroutine)


async def _back_or_log(coroutine: Coroutine[Any, Any, Inserted], answer: Inserted) -> None:
    try:
        await _back(coroutine, answer)
    except Exception:
        log.exception("a middleware's on_schedule raised after task %s was stored", answer.id)


def _close(coroutine: Coroutine[Any, Any, Inserted]) -> None:
    """Let its ``finally`` blocks run; one that awaits there must not hide the error at hand."""
    try:
        coroutine.close()
    except Exception:
        log.exception("a middleware's on_schedule did not end cleanly")


async def _wait_at_the_end(request: ScheduleRequest) -> Inserted:
    return await _AtTheEnd(request)


@types.coroutine
def _to_the_end(coroutine: Coroutine[Any, Any, Inserted]) -> Generator[Any, Any, _AtTheEnd]:
    """Step a chain until it waits at the end; what else it awaits goes to the event loop."""
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
    while True:
        try:
            yielded = step()
        except StopIteration:
            raise RuntimeError(
                "a middleware's on_schedule returned without call_next; raise Rejected to refuse"
            ) from None
        if isinstance(yielded, _AtTheEnd):
            return yielded
        step = yield from _await(coroutine, yielded)


@types.coroutine
def _back(
    coroutine: Coroutine[Any, Any, Inserted], answer: Inserted
) -> Generator[Any, Any, Inserted]:
    """Hand a chain its answer and step it to its return."""
    step: Callable[[], Any] = lambda: coroutine.send(answer)  # noqa: E731
    while True:
        try:
            yielded = step()
        except StopIteration as stop:
            result: Inserted = stop.value
            return result
        step = yield from _await(coroutine, yielded)


def _await(
    coroutine: Coroutine[Any, Any, Inserted], yielded: Any
) -> Generator[Any, Any, Callable[[], Any]]:
    """Await on the coroutine's behalf; how to go on with it afterwards."""
    try:
        sent = yield yielded
    except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine
        caught = error
        return lambda: coroutine.throw(caught)
    return lambda: coroutine.send(sent)
