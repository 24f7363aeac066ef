"""Invoices over HTTP, sent by rota within the same FastAPI process.

ROTA_URL=sqlite:///invoices.db uvicorn examples.fastapi_service:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from rota import Backoff, Context, Every, Scheduler, WorkRegistry
from rota.errors import InvalidArgument, TaskNotFound

works = WorkRegistry()


@works.register("invoice.send", queue="mail", max_attempts=5, backoff=Backoff(first=1), timeout=30)
async def send_invoice(ctx: Context, invoice_id: int) -> str:
    """Send one invoice; the task's id is the key that a mail provider would want."""
    ctx.log.info("sending invoice %d, attempt %d", invoice_id, ctx.attempt)
    return f"invoice {invoice_id} sent"


@works.recurring("invoice.remind", Every(24 * 3600))
@works.register("invoice.remind", queue="mail")
async def remind() -> None:
    """Remind those who have not paid; once a day, on one of the nodes."""


def rota_of(request: Request) -> Scheduler:
    """The scheduler of this process, for endpoints that ask for it."""
    return cast(Scheduler, request.app.state.rota)


Rota = Annotated[Scheduler, Depends(rota_of)]


def create_app(url: str | None = None) -> FastAPI:
    """The service; its scheduler lives as long as the application does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        place = url or os.environ.get("ROTA_URL", "sqlite:///invoices.db")
        async with Scheduler(works, place, concurrency=20) as app.state.rota:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/invoices/{invoice_id}/send", status_code=202)
    async def send(invoice_id: int, rota: Rota, delay: float = 0) -> dict[str, Any]:
        handle = await rota.schedule(
            send_invoice.bind(invoice_id=invoice_id),
            delay=delay,
            unique=f"invoice:{invoice_id}",
            on_conflict="return",
        )
        return {"task": handle.id, "created": handle.created}

    @app.get("/tasks/{task_id}")
    async def show(task_id: str, rota: Rota) -> dict[str, Any]:
        task = await rota.info(task_id)
        return {"state": task.status, "attempt": task.attempt, "result": task.result}

    @app.delete("/tasks/{task_id}")
    async def cancel(task_id: str, rota: Rota) -> dict[str, str]:
        return {"answer": await rota.cancel(task_id, "cancelled over HTTP")}

    @app.get("/health")
    async def health(rota: Rota, response: Response) -> dict[str, Any]:
        now = await rota.health()
        response.status_code = 200 if now.ready else 503
        return {"ready": now.ready, "running": now.running, "troubles": now.troubles}

    @app.exception_handler(TaskNotFound)
    async def not_found(_: Request, error: TaskNotFound) -> Response:
        return JSONResponse({"code": error.code, "detail": str(error)}, 404)

    @app.exception_handler(InvalidArgument)
    async def wrong(_: Request, error: InvalidArgument) -> Response:
        return JSONResponse({"code": error.code, "detail": str(error)}, 422)

    return app


app = create_app()
