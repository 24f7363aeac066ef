"""Fail when a Python file is longer than 400 lines or has a name that says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 400
NAMELESS = {"utils.py", "helpers.py", "common.py", "models.py", "misc.py"}


def main() -> int:
    """Print each offence; the exit status says whether there was one."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], capture_output=True, text=True, check=True
    ).stdout.split()
    offences = []
    for name in listed:
        path = Path(name)
        if not path.exists():
            continue
        lines = len(path.read_text().splitlines())
        if lines > LIMIT:
            offences.append(f"{name}: {lines} lines, over {LIMIT}; split it by idea")
        if path.name in NAMELESS:
            offences.append(f"{name}: a name that says nothing; name the idea")
    print("\n".join(offences) or f"sizes: {len(listed)} files, none over {LIMIT} lines")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
