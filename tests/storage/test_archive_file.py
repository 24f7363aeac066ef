"""The file that finished tasks are archived in: whole lines, on the disk, one batch at a time."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rota import ArchiveFile, Task, TaskState
from rota.core.archiving import ArchivedTask
from rota.core.ids import new_id
from rota.core.task import Attempt

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def an_archived(**fields: Any) -> ArchivedTask:
    values: dict[str, Any] = {
        "id": new_id(),
        "work": "demo",
        "params": {"n": 1},
        "state": TaskState.DONE,
        "queue": "default",
        "priority": 0,
        "run_at": NOW,
        "due_at": NOW,
        "created_at": NOW,
        "finished_at": NOW,
        "result": "ü\n",
    }
    task = Task(**(values | fields))
    attempt = Attempt(
        task_id=task.id, attempt=1, outcome="done", node=7, batch=1, started_at=NOW, finished_at=NOW
    )
    return ArchivedTask(task, (attempt,))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_task_is_a_line_with_its_history(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    archive = ArchiveFile(path)
    first, second, third = an_archived(), an_archived(), an_archived()
    archive([first, second])
    archive([third])
    assert read(path) == [one.as_json() for one in (first, second, third)]
    (line, *_) = read(path)
    assert (line["result"], line["status"]) == ("ü\n", "done")
    assert line["history"][0]["finished_at"] == "2026-11-22T12:00:00+00:00"
    assert "task_id" not in line["history"][0]


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    archive = ArchiveFile(path)
    archive([an_archived()])
    path.rename(tmp_path / "old.1.jsonl")
    archive([an_archived()])
    assert len(read(path)) == len(read(tmp_path / "old.1.jsonl")) == 1


def test_a_line_that_a_crash_has_torn_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    archive = ArchiveFile(path)
    archive([an_archived()])
    with path.open("a", encoding="utf-8") as torn:
        torn.write('{"id": "torn')
    last = an_archived()
    archive([last])
    _, broken, whole = path.read_text(encoding="utf-8").splitlines()
    assert broken == '{"id": "torn'
    assert json.loads(whole)["id"] == last.task.id


def test_a_batch_that_does_not_fit_on_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    # A limit on the size of files stands for a full disk; it holds for a whole process.
    program = f"""
import resource
from pathlib import Path
from rota import ArchiveFile
from tests.storage.test_archive_file import an_archived, read

path = Path({str(tmp_path / "old.jsonl")!r})
ArchiveFile(path)([an_archived(), an_archived()])
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1_000, size + 1_000))
try:
    ArchiveFile(path)([an_archived() for _ in range(9)])
except OSError as error:
    print(type(error).__name__, path.stat().st_size == size, len(read(path)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "OSError True 2\n", done.stderr


def test_two_that_write_at_once_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    begin = threading.Barrier(4)

    def write() -> None:
        begin.wait(30)
        for _ in range(20):
            ArchiveFile(path)([an_archived() for _ in range(5)])

    writers = [threading.Thread(target=write) for _ in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert len({line["id"] for line in read(path)}) == 400


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ArchiveFile(tmp_path / "nowhere" / "old.jsonl")([an_archived()])


def test_it_is_locked_and_on_the_disk_before_the_tasks_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.jsonl"
    seen: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append(f"{kind} {len(read(path))}")
        fsync(descriptor)
        if kind == "file":
            # Else one could take its own end out again with the lines of another behind it.
            with path.open("a") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(os, "fsync", watched)
    ArchiveFile(path)([an_archived(), an_archived()])
    ArchiveFile(path)([an_archived()])
    assert seen == ["file 2", "folder 2", "file 3"]
