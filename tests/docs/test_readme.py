"""The README's examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize(
    ("name", "printed"),
    [("asyncio", "invoice 7 sent\n"), ("threads", "10 done\n")],
)
def test_an_example_prints_what_it_should(name: str, printed: str, tmp_path: Path) -> None:
    found = re.search(
        rf"<!-- example: {name} -->\s+```python\n(.*?)```", README.read_text(), re.DOTALL
    )
    assert found is not None
    program = tmp_path / "example.py"
    program.write_text(found.group(1))

    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(README.parent)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout == printed
