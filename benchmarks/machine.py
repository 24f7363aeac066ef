"""What a figure depends on besides rota: the machine, its load, and the versions."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The processor, cores, memory, and how busy others keep them at this moment."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        "memory_gb": round(_memory() / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(Path(tempfile.gettempdir())),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Of rota and of what it stands on."""
    return {
        "rota": version("rota"),
        "python": platform.python_version(),
        "sqlalchemy": version("sqlalchemy"),
        "psycopg": version("psycopg"),
        "sqlite": sqlite3.sqlite_version,
    }


def _cores() -> int:
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _filesystem(folder: Path) -> str:
    """The kind of file system the databases are on: in memory, fsync would mean nothing."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    mounts = [line.split()[1:3] for line in lines]
    within = [(mount, kind) for mount, kind in mounts if folder.resolve().is_relative_to(mount)]
    return max(within, key=lambda item: len(item[0]), default=("", "unknown"))[1]
