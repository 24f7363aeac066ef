"""The FastAPI example serves, runs what it was asked for, and says how it is."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from examples.fastapi_service import create_app


async def test_an_invoice_is_sent_once_and_asked_for_over_http(tmp_path: Path) -> None:
    app = create_app(f"sqlite:///{tmp_path / 'invoices.db'}")
    transport = httpx.ASGITransport(app=app)

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        sent = await client.post("/invoices/7/send")
        task = sent.json()["task"]
        done = await app.state.rota.handle(task).result(timeout=10)
        later = (await client.post("/invoices/8/send", params={"delay": 3600})).json()
        again = (await client.post("/invoices/8/send")).json()
        shown = (await client.get(f"/tasks/{task}")).json()
        cancelled = await client.delete(f"/tasks/{later['task']}")
        health = await client.get("/health")
        recurring = [info.id for info in await app.state.rota.list_recurring()]

    assert sent.status_code == 202
    assert done == "invoice 7 sent"
    assert again == {"task": later["task"], "created": False}
    assert shown == {"state": "done", "attempt": 1, "result": "invoice 7 sent"}
    assert cancelled.json() == {"answer": "cancelled"}
    assert (health.status_code, health.json()["ready"]) == (200, True)
    assert recurring == ["invoice.remind"]


@pytest.mark.parametrize(
    ("task_id", "status"), [("01890000-0000-7000-8000-000000000000", 404), ("nonsense", 422)]
)
async def test_a_wrong_id_is_the_callers_fault(task_id: str, status: int, tmp_path: Path) -> None:
    app = create_app(f"sqlite:///{tmp_path / 'invoices.db'}")
    transport = httpx.ASGITransport(app=app)

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        answer = await client.get(f"/tasks/{task_id}")

    assert answer.status_code == status
