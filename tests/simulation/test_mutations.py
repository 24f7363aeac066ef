"""The simulation can fail: each planted bug is found by one of its first seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.test_simulation import simulate


@pytest.mark.timeout(240)  # for machines that do much else
def test_each_planted_bug_is_found() -> None:
    told = simulate("--mutations")
    lines = dict(line.split(": ", 1) for line in told.stdout.splitlines())
    assert lines.keys() == MUTATIONS.keys(), told.stdout + told.stderr
    for name, found in lines.items():
        assert found.startswith("found by seed"), f"{name}: {found}"
    assert told.returncode == 0
