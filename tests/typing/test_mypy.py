"""Programs that use the registry are checked by mypy; the expected answers stand beside the lines.

``# E: text`` expects an error with this text on the line, ``# N: text`` a note (of
``reveal_type``). Any other error, and an expectation that is not met, fails the test.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]

_ANSWER = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): (?P<kind>error|note): (?P<text>.*)$")
_EXPECTED = re.compile(r"# (E|N): (.*?)(?=\s+# [EN]: |$)")

Place = tuple[str, int]


def expected() -> dict[Place, list[tuple[str, str]]]:
    places: dict[Place, list[tuple[str, str]]] = {}
    for file in sorted(PROGRAMS.glob("*.py")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found = _EXPECTED.findall(line)
            if found:
                places[file.name, number] = found
    return places


def answered(cache: Path) -> dict[Place, list[tuple[str, str]]]:
    """Mypy's errors and revealed types, by place."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-pretty",
        "--config-file=",
        "--cache-dir",
    ]
    run = subprocess.run(
        [*command, str(cache), *map(str, sorted(PROGRAMS.glob("*.py")))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    places: dict[Place, list[tuple[str, str]]] = {}
    for line in run.stdout.splitlines():
        found = _ANSWER.match(line)
        if found and (found["kind"] == "error" or "Revealed type" in found["text"]):
            kind = "E" if found["kind"] == "error" else "N"
            place = Path(found["file"]).name, int(found["line"])
            places.setdefault(place, []).append((kind, found["text"]))
    return places


def test_mypy_says_what_the_programs_expect(tmp_path: Path) -> None:
    wanted, got = expected(), answered(tmp_path)

    assert sorted(got) == sorted(wanted), {place: got[place] for place in got.keys() - wanted}
    for place, answers in wanted.items():
        assert len(got[place]) == len(answers), (place, got[place])
        for kind, text in answers:
            assert any(kind == k and text in t for k, t in got[place]), (place, text, got[place])
