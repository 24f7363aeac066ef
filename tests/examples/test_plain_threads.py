"""The threaded example runs as its first lines say."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_digests_the_files_it_is_given(tmp_path: Path) -> None:
    names = ["README.md", "LICENSE"]

    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "examples/plain_threads.py"),
            f"sqlite:///{tmp_path / 'digests.db'}",
            *names,
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    expected = [
        f"{hashlib.sha256((ROOT / name).read_bytes()).hexdigest()} {name}" for name in names
    ]
    assert (done.stdout.splitlines(), done.returncode, done.stderr) == (expected, 0, "")
