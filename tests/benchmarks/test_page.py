"""The table marks what falls short, and the page says what it was measured with."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from benchmarks.figures import in_ms, medians, part
from benchmarks.page import page, short, table
from benchmarks.targets import Target, targets

ROUND: dict[str, Any] = {
    "name": "drain",
    "database": "sqlite",
    "settings": {"journal_mode": "wal", "synchronous": "FULL"},
    "versions": {"rota": "1", "python": "3.11"},
    "machine": {
        "cpu": "a processor",
        "cores": 2,
        "memory_gb": 8,
        "system": "Linux",
        "filesystem": "ext4",
        "load_before": 0.1,
    },
}


def drained(*rates: float) -> dict[tuple[str, str], dict[str, Any]]:
    return {("drain", "sqlite"): medians([{**ROUND, "tasks_per_s": rate} for rate in rates])}


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [(19_999, "**short**"), (20_000, "reached"), (39_999, "reached"), (40_000, "aim")],
)
def test_a_rate_is_judged_by_its_bounds(rate: float, verdict: str) -> None:
    rows = table(drained(rate)).splitlines()

    assert rows[2].endswith(f"| {verdict} |")
    assert bool(short(drained(rate))) is (rate < 20_000)


@pytest.mark.parametrize(
    ("wait", "verdict"), [(6.01, "**short**"), (6, "reached"), (3.01, "reached"), (3, "aim")]
)
def test_a_time_is_judged_the_other_way_round(wait: float, verdict: str) -> None:
    target = next(one for one in targets() if one.label == "timing p99")

    assert target.verdict(wait) == verdict


def test_a_figure_without_bounds_is_shown_and_not_judged() -> None:
    assert Target("enqueue", "tasks_per_s", "enqueue").verdict(1) == ""


def test_what_is_not_to_be_judged_bears_no_verdict() -> None:
    assert "short" not in table(drained(1), judged=False)


def test_the_figure_is_the_median_beside_the_least_and_the_most() -> None:
    row = table(drained(30_000, 10_000, 25_000)).splitlines()[2]

    assert row == "| drain | SQLite | 25,000/s | 10,000 | 30,000 | ≥ 20,000 | ≥ 40,000 | reached |"


def test_each_row_has_as_many_columns_as_the_head() -> None:
    lines = table(drained(30_000)).splitlines()

    assert len({line.count("|") for line in lines}) == 1


def test_the_page_names_machine_settings_versions_rounds_and_failures() -> None:
    text = page(drained(1, 2, 3), failed=["burst on sqlite, round 1"], day=date(2026, 11, 22))

    assert "a processor, 2 cores" in text
    assert "`synchronous` FULL" in text
    assert "python 3.11" in text
    assert "3 of `drain`" in text
    assert "**Failed: burst on sqlite, round 1.**" in text
    assert "2026-11-22" in text


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile(share: float, value: float) -> None:
    assert part(range(100, 0, -1), share) == value


def test_seconds_become_milliseconds() -> None:
    assert in_ms([0.001, 0.002], prefix="own_") == {"own_p50_ms": 2.0, "own_p99_ms": 2.0}
