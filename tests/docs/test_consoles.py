"""Every line of the console blocks of these pages is executed, and does what its page says."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from rota import WorkRegistry
from rota.testing import ManualBackgroundScheduler
from rota.testing.clock import FakeClock
from tests.docs.consoles import ROOT, Console, blocks, commands

HOWTO, EXPLANATION = ROOT / "docs" / "howto", ROOT / "docs" / "explanation"
DEPLOYMENT, DJANGO, DOCTOR, FASTAPI, FLASK = (
    HOWTO / f"{name}.md" for name in ("deployment", "django", "doctor", "fastapi", "flask")
)
EVIDENCE, DRAIN = EXPLANATION / "evidence.md", EXPLANATION / "first-drain.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
HERE = {DEPLOYMENT, DJANGO, DOCTOR, FASTAPI, FLASK, EVIDENCE, DRAIN, CONTRIBUTING}
#: Followed by tests/docs/test_tutorial.py and tests/cli/test_pages.py.
ELSEWHERE = {
    ROOT / "README.md",
    ROOT / "docs" / "tutorial" / "first-ten-minutes.md",
    HOWTO / "cli.md",
    HOWTO / "crontab.md",
}
CHAOS = commands(EVIDENCE)


@pytest.fixture
def server(postgres_url: str) -> Iterator[str]:
    """A database of its own on the server."""
    name = f"console_{secrets.token_hex(4)}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def console(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Console]:
    """In an empty directory; with a server where the test has one."""
    given = "server" in request.fixturenames
    made = Console(tmp_path, request.getfixturevalue("server") if given else "")
    yield made
    made.end()


def asking(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, trust_env=False, timeout=30)


def test_every_page_with_a_console_is_followed() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]

    assert {page for page in pages if commands(page)} == HERE | ELSEWHERE


def test_fastapi_serves_and_runs_what_it_is_asked_for(console: Console) -> None:
    [serve] = commands(FASTAPI)

    service = console.start(serve)
    with asking(service.address()) as client:
        task = client.post("/invoices/7/send").json()["task"]
        shown = console.run(f"rota tasks show {task} --wait 30 --url sqlite:///invoices.db")
        health = client.get("/health")

    assert re.search(r"^result +invoice 7 sent$", shown, re.MULTILINE)
    assert health.json()["ready"]
    # Once it has shut down in order it ends by the signal itself.
    assert service.end() == -signal.SIGTERM
    assert "Application shutdown complete." in service.said
    assert console.run("rota nodes --url sqlite:///invoices.db") == "no node runs\n"


def test_flask_serves_from_two_processes_which_are_two_nodes(console: Console) -> None:
    [serve] = commands(FLASK)

    service = console.start(serve)
    with asking(service.address()) as client:
        task = client.post("/reports", json={"day": "2026-11-22"}).json()["task"]
        shown = console.run(f"rota tasks show {task} --wait 30 --url sqlite:///reports.db")
        report = client.get(f"/reports/{task}").json()

    assert re.search(r"^status +done$", shown, re.MULTILINE)
    assert report["result"] == {"title": "Ada & Co., 2026-11-22", "rows": 10}
    assert service.end() == 0
    assert len(re.findall(r"Booting worker", service.said)) == 2
    assert "Traceback" not in service.said
    assert console.run("rota nodes --url sqlite:///reports.db") == "no node runs\n"


@pytest.mark.postgres
def test_django_orders_in_one_process_and_confirms_in_another(
    console: Console, server: str
) -> None:
    export, migrate, upgrade, run_node, serve = commands(DJANGO)
    console.directory /= "django_service"
    ignored = shutil.ignore_patterns("__pycache__", "*.db*")
    shutil.copytree(ROOT / "examples" / "django_service", console.directory, ignore=ignored)

    console.run(export)
    assert "Applying orders.0001_initial... OK" in console.run(migrate)
    assert console.run(upgrade).startswith("applied step ")
    node = console.start(run_node)
    node.until("rota: running\n")
    service = console.start(f"{serve} 127.0.0.1:0")
    with asking(service.address()) as client:
        order = client.post("/orders", json={"item": "tea", "quantity": 2}).json()
        console.run(f'rota tasks show {order["task"]} --wait 30 --url "$DATABASE_URL"')
        kept = client.get(f"/orders/{order['order']}").json()

    assert kept == {"item": "tea", "confirmed": True}
    assert service.end() == 0
    assert node.end() == 0
    assert node.said == "rota: running\nrota: stopped\n"


@pytest.fixture
def service(console: Console) -> Console:
    """The directory has the service that the page on deployment shows first."""
    [program] = [text for text in blocks(DEPLOYMENT, "python") if "def make_node" in text]
    (console.directory / "service.py").write_text(program)
    return console


#: Of the page on deployment: a node, PostgreSQL, history.
RUN, INSTALL, UPGRADE, STATUS, RETENTION, PRUNE, ARCHIVE = commands(DEPLOYMENT)


def test_a_node_runs_what_the_service_knows_and_drains_at_sigterm(service: Console) -> None:
    node = service.start(RUN)
    node.until(r"serving service:make_node on sqlite:///reports\.db: 1 work, .*\n")
    schedule = "rota tasks schedule report.build -p day=monday --wait 30"
    told = service.run(f"{schedule} --url sqlite:///reports.db")

    assert "report of monday" in told
    assert node.end() == 0
    assert "draining for at most 1 m; once more stops at once\n" in node.said


@pytest.mark.postgres
def test_the_units_command_runs_on_the_database_of_its_environment(
    service: Console, server: str
) -> None:
    [text] = blocks(DEPLOYMENT, "ini")
    unit = ConfigParser(interpolation=None)
    unit.read_string(text)
    executed = unit["Service"]["ExecStart"].removeprefix("/srv/service/.venv/bin/")

    assert service.run(UPGRADE).startswith("applied step ")
    assert service.run(STATUS).endswith("this version of rota fits\n")
    node = service.start(f"{unit['Service']['Environment']} {executed}")
    node.until(r"serving service:make_node on postgresql://.*\n")
    assert node.end() == 0


def test_the_extra_for_postgresql_exists_and_all_it_needs_is_installed(console: Console) -> None:
    told = console.run(INSTALL)

    assert "does not provide the extra" not in told
    assert "Requirement already satisfied: psycopg[binary]" in told
    assert "Would install" not in told


def test_history_is_kept_and_removed_as_told(service: Console) -> None:
    url = f"sqlite:///{service.directory / 'reports.db'}"
    works = WorkRegistry()
    works.register("report.build")(lambda: "a report")
    past = FakeClock(datetime.now(UTC) - timedelta(days=3))
    with ManualBackgroundScheduler(works, url, clock=past) as scheduler:
        scheduler.schedule("report.build")
        scheduler.run_due()
    service.environment["ROTA_URL"] = url

    kept = service.run(RETENTION)
    assert kept == "done and cancelled 7 d, failed 90 d; dropped without an archive\n"
    assert service.run(PRUNE) == "removed 1\n"
    assert "Usage: rota history archive [OPTIONS] FILE\n" in service.run(ARCHIVE)


@pytest.mark.postgres
def test_the_doctor_finds_nothing_in_a_new_database(console: Console, server: str) -> None:
    [ask] = commands(DOCTOR)
    console.run(UPGRADE)

    assert console.run(ask).endswith("\nall is well\n")


@pytest.mark.postgres
def test_the_first_drain_is_measured_on_both(console: Console, server: str) -> None:
    told = [json.loads(console.run(f"{line} --quick")) for line in commands(DRAIN)]

    assert [figures["database"] for figures in told] == ["sqlite", "postgresql"]
    assert all(figures["tasks_per_s"] > 0 for figures in told)


def made_of(line: str) -> str:
    """The command that make would run."""
    program, *words = shlex.split(line)
    assert program == "make"
    settled = ["-o", ".venv/.ready", f"BIN={Path(sys.executable).parent}"]
    return subprocess.run(
        ["make", "-n", *settled, *words],
        cwd=ROOT,
        # Else variables of the make that runs the tests would get in.
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("line", CHAOS)
def test_make_hands_what_it_is_given_to_the_chaos(line: str) -> None:
    _, target, *given = shlex.split(line)
    said = shlex.split(made_of(line))

    assert target == "chaos"
    assert said[1:3] == ["-m", "tests.chaos.run"]
    for name, value in (setting.split("=") for setting in given):
        assert said[said.index(f"--{name.lower()}") + 1] == value


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("line", CHAOS)
def test_a_moment_of_chaos_keeps_all_promises(line: str, console: Console) -> None:
    told = console.run(f"{made_of(line).strip()} --minutes 0.02", timeout=200)
    databases = ["postgresql"] if "URL=postgresql" in line else ["sqlite", "postgresql"]

    assert re.findall(r"^(\w+): .* of chaos", told, re.MULTILINE) == databases
    assert told.count("  all promises kept\n") == len(databases)


@pytest.mark.parametrize("line", commands(CONTRIBUTING))
def test_what_contributors_are_told_to_make_can_be_made(line: str) -> None:
    assert made_of(line)
