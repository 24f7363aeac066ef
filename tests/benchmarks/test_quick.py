"""Every benchmark runs, on both databases, and prints the figures it is asked for."""

from __future__ import annotations

import psycopg
import pytest

from benchmarks.catalogue import benchmarks
from benchmarks.process import measured

#: As the issue names them; SQLite's and PostgreSQL's are the same.
KEYS = {
    "enqueue": {"tasks_per_s"},
    "concurrent": {"tasks_per_s"},
    "bulk": {"tasks_per_s"},
    "drain": {"tasks_per_s", "cpu_us_per_task", "rss_mb"},
    "drain_threads": {"tasks_per_s", "cpu_us_per_task", "rss_mb"},
    "drain_nodes": {"tasks_per_s_2"},
    "limit": {"tasks_per_s", "best_batch", "drain_per_s", "ratio"},
    "latency": {"p50_ms", "p99_ms", "other_process_p50_ms", "other_process_p99_ms"},
    "timing": {"p50_ms", "p99_ms"},
    "burst": {"stall_ms", "tasks_per_s"},
    "idle": {"statements_per_s", "cpu_ms_per_s"},
    "timers": {"add_per_s", "fire_per_s", "cancel_per_s", "tasks_per_s"},
    "backlog": {"p50_ms_1000", "ratio"},
    "pinned": {"p50_ms", "p99_ms", "pull_p50_ms", "pull_p99_ms"},
    "restore": {"first_run_ms", "rss_mb"},
    "history": {"counts_p50_ms", "first_page_p50_ms", "page_100_p50_ms", "failures_p50_ms"},
    "recurring": {"fired_within_s", "others_lag_p99_ms"},
    "lazy": {"ratio", "peak_ratio"},
}
ONE = "drain"
STORED = [name for name, benchmark in benchmarks().items() if benchmark.stored]

pytestmark = pytest.mark.timeout(240)


def test_all_benchmarks_are_tried_here() -> None:
    assert KEYS.keys() == benchmarks().keys()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == ONE else pytest.mark.slow) for name in KEYS],
)
def test_a_benchmark_prints_its_figures_and_what_they_depend_on(name: str) -> None:
    told = measured(name, quick=True)

    assert {key for key in KEYS[name] if told.get(key, -1) >= 0} == KEYS[name]
    assert told["name"] == name
    assert told["machine"]["cores"] >= 1
    assert told["versions"]["rota"]
    if name in STORED:
        assert told["database"] == "sqlite"
        assert told["settings"] == {"journal_mode": "wal", "synchronous": "FULL"}


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("name", STORED)
def test_it_runs_on_postgresql_too_and_says_how_durable_that_was(
    name: str, postgres_url: str
) -> None:
    told = measured(name, url=postgres_url, quick=True)

    assert {key for key in KEYS[name] if told.get(key, -1) >= 0} == KEYS[name]
    assert told["database"] == "postgresql"
    # The tests' own server skips fsync: a figure taken there must say so.
    with psycopg.connect(postgres_url) as connection:
        (fsync,) = connection.execute("show fsync").fetchone() or ("",)
    assert told["settings"]["fsync"] == fsync
    assert told["settings"]["synchronous_commit"] == "on"
