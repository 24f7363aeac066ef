"""A node as a process whose transactional work is killed around its commit."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from rota import BlockingContext, Scheduler, WorkRegistry
from tests.app.callers import begin_immediate


def works_of(url: str, table: str, die: str) -> WorkRegistry:
    """``pay`` writes a row of its own and completes with it; killed ``before`` or ``after``."""
    works = WorkRegistry()

    @works.register("pay", transactional=True)
    def pay(ctx: BlockingContext, n: int) -> str:
        engine = create_engine(url)
        if url.startswith("sqlite"):
            begin_immediate(engine)
        with Session(engine) as session:
            session.execute(
                text(f"insert into {table} (task, n) values (:task, :n)"),
                {"task": ctx.task_id, "n": n},
            )
            ctx.complete(connection=session, result="paid")
            if die == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            session.commit()
            if die == "after":
                os.kill(os.getpid(), signal.SIGKILL)
        engine.dispose()
        return "not this"

    return works


async def main(config: dict[str, str]) -> None:
    works = works_of(config["engine_url"], config["table"], config["die"])
    options = {"schema": config["schema"]} if config["schema"] else {}
    async with Scheduler(works, config["url"], lease=3, heartbeat=1, **options):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
