"""``rota demo`` in a small form: the promises, the output, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from rota.cli import exits
from tests.cli.command import rota, start

FILES = 60
SMALL = ["--files", str(FILES), "--seconds", "4"]


def figures(out: str) -> dict[str, str]:
    """The table: name and value."""
    rows = re.findall(
        r"^(\w[\w ,]*?)\s{2,}(\d+(?:\.\d+)?(?: m?s)?)(?:\s{3}.*)?$", out, re.MULTILINE
    )
    return dict(rows)


def test_sqlite(tmp_path: Path) -> None:
    done = rota("demo", *SMALL, temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = figures(done.stdout)
    assert int(table["scheduled"]) > FILES  # the ticks too
    assert table["done"] == table["scheduled"]
    assert table["lost"] == "0"
    assert table["wrong results"] == "0"
    assert table["outcomes accepted twice"] == "0"
    assert int(table["late writes refused"]) >= 1
    assert {"due to start, p50", "due to start, p99", "kill to rescue"} <= table.keys()
    verdicts = re.findall(r"^(kept|BROKEN)  ", done.stdout, re.MULTILINE)
    assert verdicts == ["kept"] * 7
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert re.search(r"killed node-\d \(SIGKILL\) while it ran [1-9]", done.stdout)
    assert re.search(r"froze node-\d \(SIGSTOP\) while it ran [1-9]", done.stdout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.postgres
def test_postgres(postgres_url: str, tmp_path: Path) -> None:
    done = rota("demo", *SMALL, "--json", "--url", postgres_url, temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["kept"] is True
    assert answer["files"] == FILES
    assert answer["done"] == answer["scheduled"] == FILES + answer["ticks"]
    assert (answer["lost"], answer["accepted_twice"], answer["wrong_results"]) == (0, 0, 0)
    assert answer["late_writes_refused"] >= 1
    assert answer["kill_to_rescue"] > 0
    assert [promise["kept"] for promise in answer["promises"]] == [True] * 7
    assert list(tmp_path.iterdir()) == []
    with psycopg.connect(postgres_url) as connection:
        left = connection.execute(
            "select nspname from pg_namespace where nspname like 'rota_demo_%'"
        ).fetchall()
    assert left == []


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    path.write_bytes(b"precious")
    done = rota("demo", *SMALL, "--url", f"sqlite:///{path}", temporary=tmp_path)
    assert done.returncode == exits.USAGE
    assert "exists" in done.stderr
    assert path.read_bytes() == b"precious"
    assert [item.name for item in tmp_path.iterdir()] == ["mine.db"]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """What is started has SIGINT as from a terminal, also where a script runs the tests with &.

    Such a script's processes ignore it, and hand that on to all they start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_interrupted_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with start("demo", temporary=tmp_path) as demo:
        nodes = _nodes_at_work(demo)
        demo.send_signal(signal.SIGINT)
        out, _ = demo.communicate(timeout=30)
        assert demo.returncode == exits.INTERRUPTED
    assert out.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in out
    assert not [pid for pid in nodes if _exists(pid)]
    assert list(tmp_path.iterdir()) == []


def test_nodes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """Even one that is frozen at that moment."""
    with start("demo", *SMALL, temporary=tmp_path, start_new_session=True) as demo:
        nodes = _nodes_at_work(demo)
        handles = [os.pidfd_open(pid) for pid in nodes]
        os.kill(nodes[0], signal.SIGSTOP)
        demo.kill()
    for handle in handles:
        ended, _, _ = select.select([handle], [], [], 30)
        os.close(handle)
        assert ended


def _nodes_at_work(demo: subprocess.Popen[str]) -> list[int]:
    """The node processes, once the demo has shown progress."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if re.search(r"done +[1-9]", line):
            break
    else:
        pytest.fail("the demo ended before it did anything")
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text()
    assert children.split()
    return [int(pid) for pid in children.split()]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
