"""The Django example's nodes run what its requests schedule, if those commit."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "examples" / "django_service"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of its own, since Django keeps its tables beside rota's."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'service.db'}"
        return
    server = request.getfixturevalue("postgres_url")
    name = f"django_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield server.replace("/postgres?", f"/{name}?")
        admin.execute(f"drop database {name} with (force)")


def test_a_kept_order_is_confirmed_and_a_refused_one_leaves_no_task(database_url: str) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "service.settings",
        "PYTHONPATH": f"{SERVICE}{os.pathsep}{ROOT}",
    }

    def run(*arguments: str | Path) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=50,
            check=True,
        ).stdout

    run(SERVICE / "manage.py", "migrate")
    run("-m", "rota.cli.main", "db", "upgrade", "--url", database_url)
    with subprocess.Popen(
        [sys.executable, SERVICE / "manage.py", "rota_node"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        try:
            assert node.stdout is not None
            assert node.stdout.readline() == "rota: running\n"
            answers = json.loads(run(ROOT / "tests" / "examples" / "django_requests.py"))
            node.send_signal(signal.SIGTERM)
            farewell = node.stdout.read()
        finally:
            node.kill()

    assert answers == {
        "result": "confirmed",
        "shown": {"item": "tea", "confirmed": True},
        "refused": 409,
        "left": "nothing",
    }
    assert farewell == "rota: stopped\n"
