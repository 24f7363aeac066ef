"""What a service writes, as the README shows it: nothing in it is an error."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from rota import (
    Again,
    BackgroundScheduler,
    Backoff,
    BlockingContext,
    Cancel,
    Context,
    Done,
    Every,
    Fail,
    Middleware,
    Outcome,
    Release,
    Retry,
    Run,
    Scheduler,
    ScheduleRequest,
    Task,
    TaskHandle,
    TaskSpec,
    Unique,
    WorkRegistry,
)
from rota.app import TaskOptions
from rota.core.request import ScheduleNext
from rota.core.run import ExecuteNext
from rota.core.task import Inserted
from rota.errors import DuplicateTask, RotaError, TaskFailed

log = logging.getLogger(__name__)
works = WorkRegistry()


@works.register(
    "invoice.send",
    aliases=["send_invoice"],
    queue="mail",
    max_attempts=5,
    backoff=Backoff(first=1, max=600),
    timeout=30,
)
async def send_invoice(ctx: Context, invoice_id: int, copy_to: str | None = None) -> str:
    ctx.log.info("sending, attempt %d", ctx.attempt)
    await ctx.report({"step": 1})
    child = await ctx.spawn(build_report.bind("2026-11-22"), key="report")
    if ctx.cancelled:
        raise Cancel("not wanted")
    if await child.result(timeout=5) == 0:
        raise Retry(after=timedelta(minutes=1), reason="empty")
    return f"invoice {invoice_id} sent"


@works.register("report.build", backoff=lambda attempt: 2.0 * attempt)
def build_report(day: str) -> int:
    return len(day)


@works.register("poll")
def poll(ctx: BlockingContext, every: float = 5.0) -> None:
    if ctx.wait(1.0):
        raise Release
    ctx.report({"seen": True})
    raise Again(after=every)


class Stamp(Middleware):
    async def on_schedule(self, request: ScheduleRequest, call_next: ScheduleNext) -> Inserted:
        return await call_next(request.replace(meta={**(request.meta or {}), "by": "me"}))

    async def on_execute(self, run: Run, call_next: ExecuteNext) -> Outcome:
        outcome = await call_next(run)
        return Done("forgiven") if isinstance(outcome, Fail) else outcome


async def main() -> None:
    options: TaskOptions = {"priority": 5, "expires": timedelta(hours=1)}
    settings: dict[str, Any] = {"concurrency": 50, "queues": {"mail": 5, "default": None}}
    async with Scheduler(works, "sqlite:///invoices.db", middleware=[Stamp()], **settings) as one:
        handle = await one.schedule(send_invoice.bind(invoice_id=7), **options)
        await one.schedule(send_invoice.bind(invoice_id=7), delay=0.2)
        at = datetime.now(UTC) + timedelta(days=1)
        await one.schedule("invoice.send", {"invoice_id": 7}, at=at, unique=Unique("inv:7", 60))
        await one.schedule(build_report, {"day": "today"}, on_conflict="return", meta={"a": 1})
        await one.schedule_many(
            [build_report.bind("a"), ("poll", {}), TaskSpec(poll, {"every": 1}, {"priority": 1})]
        )
        await one.add_recurring("hourly", send_invoice.bind(invoice_id=8), Every(3600))
        try:
            text: str = await handle.result(timeout=10)
        except TaskFailed as failed:
            text = failed.reason
        except (DuplicateTask, RotaError):
            raise
        task: Task = await handle.info()
        log.info("%s: %s, %s", text, task.state, await handle.cancel("done with it"))
        for pulled in await one.claim(["mail"], 3, wait=timedelta(seconds=1)):
            await pulled.report(50)
            await pulled.done({"ok": True})
        same: TaskHandle[Any] = one.handle(handle.id)
        await asyncio.gather(same.wait(), one.counts(), one.health())
        one.concurrency = 10
        one.blocking.schedule(build_report.bind("b")).result()


def run_blocking() -> None:
    with BackgroundScheduler(works, "sqlite:///reports.db", concurrency=5) as scheduler:
        handle = scheduler.schedule(build_report.bind("2026-11-22"), unique="report:2026-11-22")
        days: int = handle.result(timeout=10)
        log.info("%d %s %d", days, handle.info().state, build_report("direct"))
