"""A node killed while its archive has a batch in hand: nothing is lost, that batch comes again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

from rota.core.clock import SystemClock
from rota.core.task import Ending
from rota.storage.open import open_repository
from rota.testing.conformance.setting import NodeHandle, ending, some_tasks
from tests.conftest import Database

ROOT = Path(__file__).parents[2]
#: Hands over what is past its time, and is killed with the third batch written down but not
#: confirmed, if it is told so.
PROGRAM = """
import json, os, signal, sys
from rota import ArchiveFile
from rota.core.clock import SystemClock
from rota.storage.keeper import Keeper
from rota.storage.open import open_repository

url, options, path, die = json.loads(sys.argv[1])
repository = open_repository(url, clock=SystemClock(), **options)
repository.open()
file, batches = ArchiveFile(path), []

def archive(batch):
    file(batch)
    batches.append(len(batch))
    if die and len(batches) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Keeper(repository=repository, clock=SystemClock(), archive=archive).turn(archive=True)
repository.close()
"""


class _LongAgo(SystemClock):
    """Forty days ago, for what counts by the machine's clock and what by the server's."""

    offset = -40.0 * 86_400

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.offset)


def test_nothing_is_lost_of_what_a_killed_node_had_in_hand(
    durable: Database, tmp_path: Path
) -> None:
    repository = durable.repository()
    repository.keep(archive=True)
    assert isinstance(durable.target, str)
    then = open_repository(durable.target, clock=_LongAgo(), **durable.options)
    then.open()
    node = NodeHandle(then)
    then.insert(some_tasks(150))
    claimed = node.claim(150)
    node.finish(*(ending(one, Ending.DONE) for one in claimed))
    then.leave(node.id)
    then.close()
    old = {one.id for one in claimed}

    path = tmp_path / "old.jsonl"
    assert _archive(durable, path, die=True) == -signal.SIGKILL
    written = _ids(path)
    left = repository.states(list(old)).keys()
    assert len(written) == len(set(written)) == 20 + 40 + 80
    # Of the three batches that are on the disk two were confirmed.
    assert left == (old - set(written)) | set(written[60:])

    assert _archive(durable, path, die=False) == 0
    assert repository.states(list(old)) == {}
    written = _ids(path)
    assert set(written) == old
    assert len(written) == 150 + 80


def _archive(database: Database, path: Path, *, die: bool) -> int:
    told = json.dumps([database.target, database.options, str(path), die])
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, told],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    return ended.returncode


def _ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]
