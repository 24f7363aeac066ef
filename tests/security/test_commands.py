"""Command works run no shell: hostile arguments arrive as they are, as one argument each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rota import Scheduler, WorkRegistry
from rota.errors import InvalidArgument
from tests.security.hostile import STORABLE, UNSTORABLE

ARGUMENTS = [
    *STORABLE,
    "; touch marker",
    "$(touch marker)",
    "`touch marker`",
    "| touch marker",
    "&& touch marker &",
    "> marker",
    "\n touch marker \n",
    "*",
    "~",
    "${HOME}",
    "{a}{b!r}{0}",
    "%PATH%",
]


async def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    works = WorkRegistry()
    out = tmp_path / "out"
    program = f"import json, sys; open({str(out)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')"
    script = tmp_path / "echo.py"
    script.write_text(program)
    works.command("echo", sys.executable, args=[str(script), "--", "{text}"], cwd=tmp_path)
    async with Scheduler(works, concurrency=1) as scheduler:
        for text in ARGUMENTS:
            handle = await scheduler.schedule("echo", {"text": text})
            assert await handle.wait(timeout=30)
        for text in UNSTORABLE:
            with pytest.raises(InvalidArgument):
                await scheduler.schedule("echo", {"text": text})
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines == [["--", text] for text in ARGUMENTS]
    assert [path.name for path in tmp_path.iterdir() if path.name == "marker"] == []
