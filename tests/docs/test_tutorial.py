"""The commands of the tutorial and the README, in an empty directory, do what the pages say."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "first-ten-minutes.md"
README = ROOT / "README.md"

_STEP = re.compile(
    r"<!-- file: (?P<file>\S+) -->\n```python\n(?P<program>.*?)^```$"
    r"|^```console\n(?P<commands>.*?)^```$"
    r"|^<!-- wait: (?P<log>\S+) (?P<word>\S+) -->$",
    re.DOTALL | re.MULTILINE,
)
#: The environment of the tests is what these would make.
_INSTALLS = ("python3 -m venv", "pip install")


def script(page: str, directory: Path) -> str:
    """The page's commands as one script; its programs are written to the directory."""
    lines = []
    for step in _STEP.finditer(page):
        if step["file"]:
            (directory / step["file"]).write_text(step["program"])
        elif step["commands"]:
            lines += [
                command
                for command in step["commands"].splitlines()
                if not command.startswith(_INSTALLS)
            ]
        else:
            lines.append(f"until grep -q {step['word']} {step['log']}; do read -rt 0.1 <&9; done")
    # Descriptor 9 never has anything to read: reading it with a timeout is a pause.
    return "\n".join(["exec 9<>pause", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", *lines, ""])


def follow(page: str, directory: Path) -> str:
    """What the page's commands print."""
    os.mkfifo(directory / "pause")
    program = directory / "tutorial.sh"
    program.write_text(script(page, directory))
    environment = {name: value for name, value in os.environ.items() if "ROTA_" not in name}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
    }

    with subprocess.Popen(
        ["bash", program],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            told, _ = shell.communicate(timeout=55)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)

    assert shell.returncode == 0, told
    return told


@pytest.mark.slow
def test_the_cake_is_baked_by_the_second_node_after_the_first_is_killed(tmp_path: Path) -> None:
    told = follow(PAGE.read_text(), tmp_path)

    assert "apple cake, baked by two\n" in told
    assert re.search(r"^one +cake\.bake ", told, re.MULTILINE)
    assert re.search(r"^attempt +1 of 1$", told, re.MULTILINE)
    assert re.search(r"^  1  lost .*\n  1  done ", told, re.MULTILINE)
    assert re.search(r"^.* cake\.bake +default +failed ", told, re.MULTILINE)
    assert re.search(r"^oven\.clean .* every hour ", told, re.MULTILINE)
    assert "draining" in (tmp_path / "two.log").read_text()


@pytest.mark.slow
def test_the_readme_alone_leads_to_two_nodes_and_a_kill(tmp_path: Path) -> None:
    page = README.read_text()
    told = follow(page[page.index("## Two nodes") : page.index("## In a service")], tmp_path)

    assert re.search(r"^one +cake\.bake ", told, re.MULTILINE)
    assert re.search(r"^result +apple cake, baked by two$", told, re.MULTILINE)
    assert re.search(r"^  1  lost .*\n  1  done ", told, re.MULTILINE)
