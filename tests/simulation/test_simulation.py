"""The promises hold in simulated worlds, and a world is made of its seed alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """As ``make simulate`` does it, in one process."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--processes", "1", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(240)  # for machines that do much else
def test_nothing_is_lost_and_nothing_counts_twice() -> None:
    told = simulate("--seeds", "60")
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr
    assert "lost = 0, twice = 0, other = 0" in told.stdout
    told_faults = re.search(r"^faults injected: (.*)$", told.stdout, re.MULTILINE)
    assert told_faults is not None
    faults = {fault.rpartition(" ")[0] for fault in told_faults[1].split(", ")}
    assert faults == {
        "clock skew",
        "clock step",
        "connection loss",
        "connection lost with the reply",
        "crash",
        "delay",
        "error after commit",
        "error before commit",
        "loop stall",
        "notification lost",
        "outage",
        "pause",
        "restart",
    }
    assert re.search(r"refused \d+, .*rescued \d+", told.stdout)


@pytest.mark.timeout(240)  # for machines that do much else
def test_a_seed_gives_the_same_history_each_time() -> None:
    once, again = (simulate("--seeds", "20", "--fingerprints").stdout for _ in range(2))
    assert len(re.findall(r"^\d+ [0-9a-f]{64}$", once, re.MULTILINE)) == 20
    assert once == again


def test_a_seed_that_fails_says_how_to_see_it_again() -> None:
    failing = simulate("--plant", "forget the limits", "--seeds", "4")
    assert failing.returncode == 1
    seed = re.search(r"replay it with: make simulate SEED=(\d+)", failing.stdout)
    assert seed is not None, failing.stdout[-3000:] + failing.stderr
    again = simulate("--plant", "forget the limits", "--seed", seed[1])
    assert again.returncode == 1
    assert "BROKEN limit" in again.stdout
    shown = failing.stdout.split("the end of its trace:\n")[1].split("replay it with")[0]
    for line in shown.splitlines():
        assert line.strip() in again.stdout
    assert re.search(r"history +Scheduled", again.stdout)
