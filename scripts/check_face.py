"""Fail when a name of any module has a type that pyright cannot know for sure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
_ENTRY = re.compile(r"^\.\. auto(?:class|function|exception):: (\S+)", re.MULTILINE)
#: What SQLAlchemy and psycopg leave open: their classes are not known to pyright in all parts.
_FOREIGN = (
    "rota.storage.tables.Instant",
    "rota.storage.tables.Id",
    "rota.storage.postgres.connections.FAILURES",
)
_WHOLE = re.compile(r"^\.\. automodule:: (\S+)", re.MULTILINE)


def documented() -> set[str]:
    """The classes and functions the reference has, by where they are defined."""
    pages = [page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md")]
    entries = [name for page in pages for name in _ENTRY.findall(page)]
    names = [name if name.startswith("rota.") else f"rota.{name}" for name in entries]
    for place in [place for page in pages for place in _WHOLE.findall(page)]:
        module = import_module(place)
        names += [f"{place}.{name}" for name in getattr(module, "__all__", ()) or vars(module)]
    found = (getattr(import_module(module), name) for module, _, name in map(_split, names))
    return {
        f"{item.__module__}.{item.__qualname__}"
        for item in found
        if getattr(item, "__module__", "").startswith("rota.") and hasattr(item, "__qualname__")
    }


def _split(name: str) -> tuple[str, str, str]:
    return name.rpartition(".")


def main() -> int:
    """Run ``pyright --verifytypes``; every name counts, and the documented are counted."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("pyright"),
            *("--pythonpath", sys.executable),
            *("--verifytypes", "rota", "--ignoreexternal", "--outputjson"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    face = documented()
    offences = []
    seen = 0
    for symbol in report["symbols"]:
        name = symbol["name"]
        seen += any(name == item or name.startswith(item + ".") for item in face)
        if not (symbol["isTypeKnown"] or name.startswith(_FOREIGN)):
            offences += [f"{name}: {item['message']}" for item in symbol["diagnostics"]]
    names = len(report["symbols"])
    known = f"{len(face)} documented, {seen} names; {names} in all modules: all types known"
    print("\n".join(offences) or known)
    return 1 if offences or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
