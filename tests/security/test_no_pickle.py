"""Reading a database can run nothing but registered functions: no module here could do more."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import rota

PACKAGE = Path(rota.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
#: Modules that make objects or code out of bytes.
DANGEROUS = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
#: They read no database: the functions are made from the programmer's own signature.
COMPILERS = {"core/convert/compiler.py", "core/signature.py"}


#: Without one of these words a module need not be parsed.
SUSPICIOUS = re.compile(
    r"pickle|marshal|shelve|dill|yaml|eval|exec|compile|__import__|shell|system|popen|output"
)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def shells(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from ("shell=" for word in node.keywords if word.arg == "shell")
            if isinstance(node.func, ast.Attribute) and node.func.attr in {
                "system",
                "popen",
                "create_subprocess_shell",
                "getoutput",
                "getstatusoutput",
            }:
                yield node.func.attr


def test_the_package_is_looked_at() -> None:
    assert len(MODULES) > 150


@pytest.mark.parametrize("name", ["import pickle", "from _pickle import loads", "import yaml"])
def test_this_guard_sees_an_import(name: str) -> None:
    assert DANGEROUS & {*imported(ast.parse(name))}


def test_nothing_unpickles_evaluates_or_runs_a_shell() -> None:
    wrong = []
    for path in MODULES:
        source, name = path.read_text(), path.relative_to(PACKAGE).as_posix()
        if not SUSPICIOUS.search(source):
            continue
        tree = ast.parse(source)
        wrong += [(name, module) for module in DANGEROUS.intersection(imported(tree))]
        wrong += [(name, call) for call in CALLS.intersection(called(tree))]
        wrong += [(name, shell) for shell in shells(tree)]
    assert [one for one in wrong if one[0] not in COMPILERS] == []


def test_processes_are_talked_to_in_json() -> None:
    """``multiprocessing`` would pickle what goes through its queues and pipes."""
    source = "".join(path.read_text() for path in (PACKAGE / "scheduler").glob("*.py"))
    names = {*imported(ast.parse(source.replace("from __future__ import annotations", "")))}
    assert "concurrent" not in names
    for word in ("multiprocessing.Queue", "multiprocessing.Pipe", ".Pool(", "ProcessPoolExecutor("):
        assert word not in source
