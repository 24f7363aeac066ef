"""The code of each schema step, as a tree that processes can be started from."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

from tests.processes.fleet import PATIENCE

SCHEMA = "rota/storage/schema"
#: What a tree needs to run nodes and commands.
PARTS = ("rota", "tests")
_WHAT = """
import json, rota
from rota.storage.schema import ledger
step = ledger.STEPS[-1]
print(json.dumps([rota.__file__, step.version, step.compatible_from]))
"""
_AUTHOR = {
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@localhost",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


class Code(NamedTuple):
    """A tree of code; ``step`` is the newest it knows, which serves code of ``compatible_from``."""

    root: Path
    step: int
    compatible_from: int


class CodeHistory:
    """The code of each step, from a git repository and its work tree."""

    def __init__(self, repository: Path, exports: Path) -> None:
        self._repository = repository
        self._exports = exports

    def at(self, step: int) -> Code:
        """The work tree, if the step is its newest, else the last code before the next step.

        That is the last release that did not know the next step, or without one the commit
        before the one that brought it.
        """
        if step == newest_step(self._repository):
            return _examined(self._repository, step)
        root = self._exports / f"step-{step}"
        if not root.exists():
            self._export(self.before(step + 1), root)
        return _examined(root, step)

    def released(self) -> list[str]:
        """The tags of releases, the newest first."""
        return self._git("tag", "--list", "v*", "--sort=-version:refname").split()

    def changed_since(self, tag: str) -> list[str]:
        """Files of steps that the release had and that are different now."""
        said = self._git("diff", "--name-only", "--diff-filter=a", tag, "--", f"{SCHEMA}/step_*.py")
        return said.split()

    def before(self, step: int) -> str:
        """The commit of the last code that does not know the step but the one before it."""
        file = step_file(step)
        for tag in self.released():
            files = self._git("ls-tree", "-r", "--name-only", tag, f"{SCHEMA}/").split()
            if step_file(step - 1) in files and file not in files:
                return tag
        brought = self._git("log", "--diff-filter=A", "--format=%H", "--", file).split()
        assert brought, f"git does not know who brought {file}; fetch its whole history"
        return f"{brought[-1]}^"

    def _export(self, commit: str, root: Path) -> None:
        packed = subprocess.run(
            ["git", "archive", "--format=tar", commit, *PARTS],
            cwd=self._repository,
            capture_output=True,
            check=True,
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(root, filter="data")

    def _git(self, *words: str) -> str:
        return git(self._repository, *words)


def fabricated(directory: Path, ddl: dict[str, str], *, breaking: bool = False) -> CodeHistory:
    """A history of this work tree as it is, and of a step that is brought on top of it."""
    root = directory / "work"
    here = Path(__file__).resolve().parents[2]
    for part in PARTS:
        shutil.copytree(here / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "As it is")
    number = newest_step(root) + 1
    text = [
        f"VERSION = {number}",
        'NAME = "fabricated"',
        f"COMPATIBLE_FROM = {number if breaking else number - 1}",
        *(f"{dialect.upper()} = {script!r}" for dialect, script in ddl.items()),
    ]
    (root / step_file(number)).write_text("\n".join(text) + "\n", encoding="utf-8")
    _enter(root, number)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "Bring the step")
    return CodeHistory(root, directory / "exports")


def newest_step(root: Path) -> int:
    """The highest number among the tree's files of steps."""
    return max(int(path.stem.removeprefix("step_")) for path in (root / SCHEMA).glob("step_*.py"))


def step_file(step: int) -> str:
    """The path of a step's file within a tree."""
    return f"{SCHEMA}/step_{step:04d}.py"


def git(root: Path, *words: str) -> str:
    """What git answers in this repository."""
    done = subprocess.run(
        ["git", *words],
        cwd=root,
        env={**os.environ, **_AUTHOR},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
    return done.stdout


def _enter(root: Path, number: int) -> None:
    """Have the tree's ledger know the step, as the author of one does."""
    ledger = root / SCHEMA / "ledger.py"
    text = ledger.read_text(encoding="utf-8")
    last, new = f"step_{number - 1:04d}", f"step_{number:04d}"
    imported = "from rota.storage.schema import "
    for known, more in (
        (imported, f"{imported}{new}, "),
        (f"_step({last})", f"_step({last}), _step({new})"),
    ):
        assert text.count(known) == 1, f"ledger.py has {known!r} not once"
        text = text.replace(known, more)
    ledger.write_text(text, encoding="utf-8")


def _examined(root: Path, step: int) -> Code:
    """The tree, once a process started in it has shown that it runs its code and no other."""
    said = subprocess.run(
        [sys.executable, "-c", _WHAT],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    file, version, compatible_from = json.loads(said)
    assert Path(file).is_relative_to(root), f"{root} runs the code of {file}"
    assert version == step, f"the code in {root} knows step {version}, not {step}"
    return Code(root, version, compatible_from)
