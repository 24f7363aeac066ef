"""What the figures must reach, and what they should."""

from __future__ import annotations

from typing import NamedTuple

BOTH = ("postgresql", "sqlite")
POSTGRES, SQLITE, NONE = ("postgresql",), ("sqlite",), ("none",)


class Target(NamedTuple):
    """One row of the table; without ``must`` the figure is shown and not judged."""

    benchmark: str
    key: str
    label: str
    unit: str = "/s"
    must: float | None = None
    aim: float | None = None
    databases: tuple[str, ...] = BOTH
    less_is_better: bool = False

    def verdict(self, value: float) -> str:
        """``short`` of what must be reached, ``reached``, or the ``aim`` reached, too."""
        if self.must is None:
            return ""
        if not self._reaches(value, self.must):
            return "**short**"
        return "aim" if self.aim is not None and self._reaches(value, self.aim) else "reached"

    def _reaches(self, value: float, wanted: float) -> bool:
        return value <= wanted if self.less_is_better else value >= wanted


def targets() -> list[Target]:
    """Every row, those that are judged as the issue names them."""
    return [*_throughput(), *_punctuality(), *_size(), *_engine(), *_unjudged()]


def _throughput() -> list[Target]:
    return [
        Target("drain", "tasks_per_s", "drain", must=20_000, aim=40_000),
        Target("limit", "ratio", "drain ÷ raw-SQL limit", "", 0.40),
        Target("drain_threads", "tasks_per_s", "drain_threads", must=10_000, aim=20_000),
        Target("bulk", "tasks_per_s", "bulk", "/s", 60_000, 120_000, POSTGRES),
        Target("bulk", "tasks_per_s", "bulk", "/s", 80_000, 200_000, SQLITE),
        Target("concurrent", "tasks_per_s", "concurrent", "/s", 10_000, 25_000, POSTGRES),
        Target("concurrent", "tasks_per_s", "concurrent", databases=SQLITE),
    ]


def _less(
    benchmark: str,
    key: str,
    label: str,
    bounds: tuple[float | None, float | None],
    *,
    unit: str = " ms",
    databases: tuple[str, ...] = BOTH,
) -> Target:
    """A row of which less is better; ``bounds`` are what must be reached and the aim."""
    return Target(benchmark, key, label, unit, *bounds, databases, less_is_better=True)


def _punctuality() -> list[Target]:
    rows = [
        _less("timing", "p50_ms", "timing p50", (1.5, 0.5)),
        _less("timing", "p99_ms", "timing p99", (6, 3)),
        _less("burst", "stall_ms", "burst, longest stall, start-up frozen", (10, 5)),
        _less("burst", "unfrozen_stall_ms", "burst, longest stall, nothing frozen", (None, None)),
        _less("idle", "statements_per_s", "idle, statements", (1, 0.5), unit="/s"),
        _less("idle", "cpu_ms_per_s", "idle, processor time", (3, 1), unit=" ms/s"),
    ]
    for who, prefix in (("", ""), (", other process", "other_process_")):
        for part, bounds in (("p50", (4, 2)), ("p99", (8, 5))):
            key, label = f"{prefix}{part}_ms", f"latency {part}{who}"
            rows += [
                _less("latency", key, label, bounds, databases=POSTGRES),
                _less("latency", key, label, (None, None), databases=SQLITE),
            ]
    return rows


def _size() -> list[Target]:
    return [
        _less("backlog", "ratio", "backlog, claim at 1M ÷ 10k", (1.3, 1.1), unit=""),
        _less("pinned", "p99_ms", "pinned p99 after 200k", (10, 3)),
        _less("restore", "first_run_ms", "restore 1M, first run", (1_000, 300)),
        _less("restore", "rss_growth_mb", "restore 1M, memory", (60, 20), unit=" MB"),
    ]


def _engine() -> list[Target]:
    return [
        Target("timers", "add_per_s", "engine, add", "/s", 300_000, 600_000, NONE),
        Target("timers", "fire_per_s", "engine, fire", "/s", 60_000, 100_000, NONE),
        Target("timers", "cancel_per_s", "engine, cancel", databases=NONE),
        Target("timers", "tasks_per_s", "memory scheduler", "/s", 20_000, 40_000, NONE),
    ]


def _looking() -> list[Target]:
    names = {
        "counts": "counts by queue",
        "first_page": "first page",
        "page_100": "100th page",
        "work_failed": "failed of one work",
        "failures": "failures grouped",
        "recurring": "children of one of 7 definitions",
        "rare_queue": "100,000 rows walked",
    }
    return [
        Target("history", f"{name}_p50_ms", f"1M finished, {label}", " ms")
        for name, label in names.items()
    ]


def _unjudged() -> list[Target]:
    return [
        Target("enqueue", "tasks_per_s", "enqueue, one by one"),
        Target("drain", "cpu_us_per_task", "drain, processor time", " µs/task"),
        Target("drain", "rss_mb", "drain, memory", " MB"),
        Target("drain_nodes", "tasks_per_s_2", "drain, 2 nodes"),
        Target("drain_nodes", "tasks_per_s_4", "drain, 4 nodes"),
        Target("limit", "tasks_per_s", "raw-SQL limit"),
        Target("limit", "batch_100_per_s", "raw SQL, batches of 100"),
        Target("limit", "batch_500_per_s", "raw SQL, batches of 500"),
        Target("burst", "tasks_per_s", "burst, throughput"),
        Target("idle", "bare_wake_ms", "idle, one wake-up of a bare thread", " ms"),
        Target("idle", "version_reads_per_s", "idle, version reads", databases=SQLITE),
        Target("backlog", "p50_ms_10000", "claim of 100 at 10k", " ms"),
        Target("backlog", "p50_ms_1000000", "claim of 100 at 1M", " ms"),
        Target("pinned", "before_p99_ms", "pinned p99 before them", " ms"),
        Target("pinned", "pull_p99_ms", "pinned, `claim()` p99", " ms"),
        *_looking(),
        Target("recurring", "fired_within_s", "10,000 recurring, all fired within", " s"),
        Target("recurring", "others_lag_p99_ms", "recurring, others' p99 meanwhile", " ms"),
        Target("lazy", "ratio", "memory, 10 kB lazy params ÷ none", ""),
    ]
