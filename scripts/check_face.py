"""Fail when a name of rota's public face has a type that pyright cannot know for sure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import rota


def main() -> int:
    """Run ``pyright --verifytypes`` and keep what concerns the names in ``rota.__all__``."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("pyright"),
            *("--pythonpath", sys.executable),
            *("--verifytypes", "rota", "--ignoreexternal", "--outputjson"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(rota.__file__).parents[1])},
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    face = {
        f"{item.__module__}.{item.__qualname__}"
        for item in (getattr(rota, name) for name in rota.__all__)
        if hasattr(item, "__qualname__")
    }
    offences = []
    seen = 0
    for symbol in report["symbols"]:
        name = symbol["name"]
        if not any(name == item or name.startswith(item + ".") for item in face):
            continue
        seen += 1
        if not symbol["isTypeKnown"]:
            offences += [f"{name}: {item['message']}" for item in symbol["diagnostics"]]
    print("\n".join(offences) or f"face: {seen} names, all types known")
    return 1 if offences or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
