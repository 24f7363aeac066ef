"""Reports over HTTP, built by rota in threads of the same Flask process.

ROTA_URL=sqlite:///reports.db gunicorn "examples.flask_service:create_app()"
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import Any, cast

from flask import Flask, abort, current_app, request

from rota import BackgroundScheduler, BlockingContext, Outcome, Run, WorkRegistry
from rota.errors import TaskNotFound

works = WorkRegistry()


@works.register("report.build", queue="reports", max_attempts=3, timeout=600)
def build_report(ctx: BlockingContext, day: str) -> dict[str, Any]:
    """Build one day's report; what the application is configured with is at hand."""
    ctx.report({"percent": 50})
    return {"title": f"{current_app.config['COMPANY']}, {day}", "rows": len(day)}


def rota() -> BackgroundScheduler:
    """This process's scheduler, in a request or in a work."""
    return cast(BackgroundScheduler, current_app.extensions["rota"])


def create_app(url: str | None = None, company: str = "Ada & Co.") -> Flask:
    """The service; call it in the process that serves, after any fork."""
    app = Flask(__name__)
    app.config["COMPANY"] = company

    def in_app_context(run: Run, call_next: Callable[[Run], Outcome]) -> Outcome:
        with app.app_context():
            return call_next(run)

    scheduler = BackgroundScheduler(
        works,
        url or os.environ.get("ROTA_URL", "sqlite:///reports.db"),
        concurrency=4,
        middleware=[in_app_context],
    )
    scheduler.start()
    atexit.register(scheduler.shutdown)
    app.extensions["rota"] = scheduler

    @app.post("/reports")
    def order() -> tuple[dict[str, Any], int]:
        day = request.get_json()["day"]
        handle = rota().schedule(
            build_report.bind(day=day), unique=f"report:{day}", on_conflict="return"
        )
        return {"task": handle.id}, 202

    @app.get("/reports/<uuid:task_id>")
    def show(task_id: object) -> dict[str, Any]:
        try:
            task = rota().info(task_id)
        except TaskNotFound as error:
            abort(404, str(error))
        return {"state": task.status, "result": task.result}

    @app.get("/health")
    def health() -> tuple[dict[str, Any], int]:
        now = rota().health()
        return {"ready": now.ready, "troubles": now.troubles}, 200 if now.ready else 503

    return app
