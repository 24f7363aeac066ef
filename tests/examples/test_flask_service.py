"""The Flask example serves, and its works run within the application's context."""

from __future__ import annotations

from pathlib import Path

from examples.flask_service import create_app


def test_a_report_is_built_in_the_application_context(tmp_path: Path) -> None:
    app = create_app(f"sqlite:///{tmp_path / 'reports.db'}", company="Test & Sons")
    scheduler = app.extensions["rota"]
    try:
        client = app.test_client()
        ordered = client.post("/reports", json={"day": "2026-11-22"})
        task = ordered.get_json()["task"]
        result = scheduler.handle(task).result(timeout=10)
        shown = client.get(f"/reports/{task}").get_json()
        unknown = client.get("/reports/01890000-0000-7000-8000-000000000000")
        health = client.get("/health")
    finally:
        scheduler.shutdown()

    assert ordered.status_code == 202
    assert result == {"title": "Test & Sons, 2026-11-22", "rows": 10}
    assert shown == {"state": "done", "result": result}
    assert unknown.status_code == 404
    assert health.get_json() == {"ready": True, "troubles": []}
