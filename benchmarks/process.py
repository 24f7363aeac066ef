"""Run one benchmark in a process of its own, so that none inherits another's memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class BenchmarkFailed(RuntimeError):
    """It ended with an error, or did not end in time."""


def measured(
    name: str,
    *,
    url: str | None = None,
    tasks: int | None = None,
    quick: bool = False,
    timeout: float = 600.0,
) -> dict[str, Any]:
    """What the benchmark prints; raises ``BenchmarkFailed`` with the end of its errors."""
    command = [sys.executable, "-m", "benchmarks", name, "--json"]
    command += ["--url", url] if url else []
    command += ["--tasks", str(tasks)] if tasks else []
    command += ["--quick"] if quick else []
    try:
        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkFailed(f"{name} had not ended after {timeout:.0f} s") from None
    lines = ended.stdout.strip().splitlines()
    if ended.returncode or not lines:
        raise BenchmarkFailed(f"{name}: {ended.stderr.strip()[-2_000:]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures
