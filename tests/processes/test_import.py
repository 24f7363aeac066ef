"""Importing rota is light and changes nothing of the process it is imported into."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.processes.fleet import PATIENCE, ROOT

HEAVY = ["sqlalchemy", "psycopg", "croniter", "apscheduler", "click", "pydantic", "msgspec"]

LOOK = """
import json, logging, signal, sys, threading
def state():
    return {
        "signals": [str(signal.getsignal(one)) for one in signal.valid_signals()],
        "handlers": [str(one.handlers) for one in (logging.getLogger(), logging.getLogger("rota"))]
        + [logging.getLogger().level, logging.getLogger("rota").level],
        "threads": threading.active_count(),
        "hook": str(sys.excepthook),
    }
before = state()
import rota
after = state()
"""

RUN = """
import asyncio
works = rota.WorkRegistry()
@works.register("double")
async def double(n: int) -> int:
    return 2 * n
async def main():
    async with rota.Scheduler(works) as scheduler:
        during = state()
        handle = await scheduler.schedule(double.bind(21))
        assert await handle.result(timeout=20) == 42
    return during
during = asyncio.run(main())
# asyncio's runner has put its own handler there, and taken it away again
after = state()
"""

TELL = """
print(json.dumps({"before": before, "after": after, "loaded": sorted(sys.modules)}))
"""


@pytest.mark.parametrize("program", [LOOK, LOOK + RUN], ids=["import", "memory scheduler"])
def test_it_is_light_and_leaves_no_trace(program: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", program + TELL],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd=ROOT,
    )
    told = json.loads(answer.stdout)
    assert not {name.partition(".")[0] for name in told["loaded"]} & set(HEAVY)
    assert told["after"] == told["before"]
    assert answer.stderr == ""
